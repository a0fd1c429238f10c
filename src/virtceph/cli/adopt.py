"""`virtceph adopt-secret`: an administrator's persistent secret becomes an ephemeral one of the same UUID."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from virtceph.cli.arguments import CommandParser
from virtceph.cli.asking import confirmed
from virtceph.cli.doctor import libvirt_uri
from virtceph.cli.values import is_uuid

if TYPE_CHECKING:
    from virtceph.doctor.adopting import Adoptable, Libvirt
    from virtceph.doctor.keeping import Keeping

USAGE = (
    "usage: virtceph adopt-secret UUID (--key-file FILE | --credential FILE | --forget) [--yes] [-h]\n"
    "                             [--user NAME --monitors HOST:PORT,…] [--usage-id ID]\n"
    "                             [--connect URI] [--libvirt-dir DIR] [--socket PATH]"
)
HELP = f"""\
{USAGE}

A secret that libvirt keeps on the disk, its key in clear, becomes one that is only in memory, with the same
UUID. First its key is proved: by connecting to the cluster of each VM that names it, as the user it names.
Then it says what it does and how to undo it, and asks. Running VMs do not notice. When anything fails, the
persistent secret is there as before. Needs root.

options:
  --key-file FILE     keep the key in a new file, in base64, for root and the group virtceph (0640)
  --credential FILE   keep it encrypted by systemd-creds, for LoadCredentialEncrypted=
  --forget            keep it nowhere here: an engine registers it, or you have it
  --yes               do not ask
  --user NAME, --monitors HOST:PORT,…
                      whose key it is, and of which cluster, when no VM here names it
  --usage-id ID       the usage of the new secret, within [secrets] usage_prefix (ovirt/ and the user's name)
  --connect URI       the libvirt to change (else $LIBVIRT_DEFAULT_URI, else qemu:///system)
  --libvirt-dir DIR   where that libvirt keeps its secrets/ (/etc/libvirt)
  --socket PATH       the daemon's socket; where none answers, libvirt alone has the secret until it restarts

exit code: 0 done, 1 refused or failed, 2 the command line is wrong
"""
_DONE, _FAILED = 0, 1


def run(argv: list[str]) -> int:
    """Adopt one secret; `argv` is the command line without the word `adopt-secret`. Blocks. Raises
    UsageError."""
    parser = CommandParser(USAGE)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("uuid", nargs="?")
    keeping = parser.add_mutually_exclusive_group()
    keeping.add_argument("--key-file")
    keeping.add_argument("--credential")
    keeping.add_argument("--forget", action="store_true")
    parser.add_argument("--yes", action="store_true")
    for name in ("--user", "--monitors", "--usage-id", "--connect", "--socket"):
        parser.add_argument(name)
    parser.add_argument("--libvirt-dir", default="/etc/libvirt")
    asked = parser.parse_intermixed_args(argv)
    if asked.help:
        print(HELP, end="")
        return _DONE
    if not is_uuid(asked.uuid):
        parser.error("name the UUID of a secret; virtceph doctor lists them")
    if not (asked.key_file or asked.credential or asked.forget):
        parser.error("say where the key is kept: --key-file, --credential or --forget")
    if bool(asked.user) is not bool(asked.monitors):
        parser.error("--user and --monitors go together")
    from virtceph.doctor.adopting import AdoptionFailed, AdoptionRefused, open_libvirt
    from virtceph.doctor.keeping import KeepingFailed
    from virtceph.errors import VirtcephError

    _guard_memory()
    try:
        with contextlib.closing(open_libvirt(libvirt_uri(asked.connect))) as libvirt:
            return _adopt(libvirt, asked)
    except (AdoptionRefused, AdoptionFailed, KeepingFailed, VirtcephError) as error:
        print(f"virtceph: secret {asked.uuid}: {error}", file=sys.stderr)
        return _FAILED


def _guard_memory() -> None:
    from virtceph.process import forbid_core_dumps, forget_ceph_environment

    forbid_core_dumps()
    forget_ceph_environment()


def _adopt(libvirt: Libvirt, asked: argparse.Namespace) -> int:
    from virtceph.doctor.adopting import Claim, adoptable, prove, swap

    claim = Claim(asked.user, tuple(asked.monitors.split(","))) if asked.user else None
    secret = adoptable(libvirt, UUID(asked.uuid), Path(asked.libvirt_dir), claim)
    for proof in prove(secret):
        print(proof)
    keeping = _keeping(asked, secret)
    new = _Registration(libvirt, secret, asked)
    print(f"the persistent secret gives way to an ephemeral one, {new.where}")
    if keeping.key_file is None:
        print("its key is kept nowhere on this host")
    print("", *_undo(secret, keeping, new), "", sep="\n")
    if not asked.yes and not confirmed("go on?"):
        print("nothing was changed")
        return _FAILED
    keeping.keep(secret.key)
    try:
        swap(libvirt, secret, new.make)
    except BaseException:
        keeping.take_back()
        raise
    print(*_afterwards(secret, keeping, new), sep="\n")
    return _DONE


def _keeping(asked: argparse.Namespace, secret: Adoptable) -> Keeping:
    from virtceph.doctor.keeping import AsCredential, InFile, Nowhere

    if asked.key_file:
        return InFile(Path(asked.key_file).absolute())
    if asked.credential:
        return AsCredential(Path(asked.credential).absolute())
    return Nowhere(secret.user)


class _Registration:
    """How the ephemeral secret comes to be: through the daemon, or without one."""

    def __init__(self, libvirt: Libvirt, secret: Adoptable, asked: argparse.Namespace) -> None:
        from virtceph.client import ConnectionFailed, TimedOut, connect, socket_path
        from virtceph.doctor.suggest import usage_id

        self._libvirt, self._secret = libvirt, secret
        self.usage_id = asked.usage_id or usage_id(secret.user)
        self._path = asked.socket or socket_path()
        try:
            with connect(self._path, timeout_s=10):
                self.by_daemon = True
        except (ConnectionFailed, TimedOut):
            self.by_daemon = False

    @property
    def where(self) -> str:
        """Where it will be."""
        if self.by_daemon:
            return "registered with virtcephd, which puts it back when libvirt restarts"
        return "in libvirt until that restarts: no virtcephd answers here"

    def make(self) -> None:
        """Define it. Blocks. Raises ServerError, ConnectionFailed, LibvirtFailed."""
        from virtceph.client import connect
        from virtceph.doctor.adopting import define_ephemeral

        if not self.by_daemon:
            define_ephemeral(self._libvirt, self._secret, self.usage_id)
            return
        entry = {
            "uuid": self._secret.secret.uuid,
            "usageType": "ceph",
            "usageID": self.usage_id,
            "password": self._secret.key.reveal_base64(),
            "description": f"client.{self._secret.user}",
        }
        with connect(self._path, timeout_s=30) as daemon:
            daemon.call("Host.registerSecrets", secrets=[entry])


def _undo(secret: Adoptable, keeping: Keeping, new: _Registration) -> list[str]:
    uuid = secret.secret.uuid
    remove = f"virsh secret-undefine {uuid}"
    if new.by_daemon:
        remove = f"virtceph Host unregisterSecrets uuids={uuid}"
    define = ["virsh secret-define /dev/stdin <<'EOF'", secret.secret.xml.strip(), "EOF"]
    return ["# to undo it:", remove, *define, keeping.set_value(uuid), "# (that was how)"]


def _afterwards(secret: Adoptable, keeping: Keeping, new: _Registration) -> list[str]:
    from virtceph.doctor.suggest import secret_table

    lines = [
        f"secret {secret.secret.uuid} is ephemeral now; its key is no longer in libvirt's folder"
    ]
    if keeping.key_file is None:
        return [*lines, "see that it is registered again after a restart of this host"]
    lines += ["for virtcephd.toml, so that it is there after a restart too:", ""]
    lines += secret_table(secret.secret.uuid, secret.user, new.usage_id, keeping.key_file).split(
        "\n"
    )
    return [*lines, *keeping.hints()]
