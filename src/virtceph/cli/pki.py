"""`virtceph pki`: certificates for hosts and callers, made offline. Asks no daemon."""

from __future__ import annotations

import argparse
import json
import pwd
import sys
from pathlib import Path
from typing import Any

from virtceph.cli.arguments import CommandParser
from virtceph.cli.table import plain, safe, table
from virtceph.pki import profiles
from virtceph.pki.authority import Authority, Owner, Wanted
from virtceph.pki.files import Layout, PkiError
from virtceph.pki.report import Found, certificates_in

_USAGE = "usage: virtceph pki {init|host|client|renew|show} …; see virtceph pki -h"
HELP = """\
usage: virtceph pki COMMAND …

Makes an authority and what it gives out, in folders laid out as a host has them:
certs/vdsmcert.pem, keys/vdsmkey.pem, certs/cacert.pem. Needs no daemon and no network.

commands:
  init    make the authority             [--ca DIR] [--name NAME] [--days N] [--force]
  host    give a host a certificate      NAME [--dns NAME]… [--ip ADDRESS]… [--out DIR]
                                         [--days N] [--owner USER] [--ca DIR] [--force]
  client  give a caller a certificate    NAME --level monitor|operator|admin [--out DIR]
                                         [--days N] [--owner USER] [--ca DIR] [--force]
  renew   give one out again             DIR [--days N] [--new-key] [--owner USER] [--ca DIR]
  show    say what ends when             [PATH …] [--within DAYS] [--json]

--ca    the authority's folder (/etc/pki/virtceph-ca); its key belongs on no host
--out   where the certificate goes (a folder called NAME here); /etc/pki/vdsm is where a daemon looks
--days  how long it is valid: 397, at most 825; of the authority 3650, at most 7300
show ends with 1 when something ends within --within days (30), or has ended.

There is no list of revoked certificates, as the daemon looks at none. To shut a caller out, take his
`cert:CN=…` out of [access] and restart the daemon: whoever stands there is let in, and nobody else.
(With `cert:*` in [access] whoever has a certificate is; then make a new authority.)
"""
_CA = Path("/etc/pki/virtceph-ca")
_HOST = Path("/etc/pki/vdsm")
_LISTS = {"monitor": "monitors", "operator": "operators", "admin": "admins"}
_DONE, _FAILED = 0, 1


def run(argv: list[str]) -> int:
    """Run one command; `argv` is the command line without the word `pki`. Blocks on the disk. Raises
    UsageError."""
    if argv[:1] in ([], ["-h"], ["--help"]):
        print(HELP, end="")
        return _DONE
    asked = _parser().parse_args(argv)
    try:
        code: int = asked.run(asked)
    except PkiError as error:
        print(f"virtceph: {error}", file=sys.stderr)
        return _FAILED
    return code


class _Command(CommandParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(_USAGE, **{"allow_abbrev": True, **options})


def _parser() -> CommandParser:
    parser = CommandParser(_USAGE)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Command)
    init = commands.add_parser("init", add_help=False)
    init.add_argument("--name", default="virtceph authority")
    init.add_argument("--days", type=int, default=profiles.CA_DAYS)
    init.set_defaults(run=_init)
    for name, function in (("host", _host), ("client", _client)):
        made = commands.add_parser(name, add_help=False)
        made.add_argument("name")
        made.add_argument("--out", type=Path)
        made.set_defaults(run=function)
        if name == "host":
            made.add_argument("--dns", action="append", default=[])
            made.add_argument("--ip", action="append", default=[])
        else:
            made.add_argument("--level", required=True, choices=tuple(_LISTS))
    renew = commands.add_parser("renew", add_help=False)
    renew.add_argument("folder", type=Path)
    renew.add_argument("--new-key", action="store_true")
    renew.set_defaults(run=_renew)
    for name in ("host", "client", "renew"):
        commands.choices[name].add_argument("--days", type=int, default=profiles.LEAF_DAYS)
        commands.choices[name].add_argument("--owner")
    for name in ("init", "host", "client"):
        commands.choices[name].add_argument("--force", action="store_true")
    for name in ("init", "host", "client", "renew"):
        commands.choices[name].add_argument("--ca", type=Path, default=_CA)
    show = commands.add_parser("show", add_help=False)
    show.add_argument("paths", nargs="*", type=Path)
    show.add_argument("--within", type=int, default=30)
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_show)
    return parser


def _init(asked: argparse.Namespace) -> int:
    authority = Authority.make(asked.ca, asked.name, asked.days, force=asked.force)
    print(f"authority {asked.name} in {asked.ca}, until {profiles.ends(authority.certificate)} UTC")
    return _DONE


def _host(asked: argparse.Namespace) -> int:
    dns = asked.dns or ([] if asked.ip else [asked.name])
    names = profiles.alternatives(dns, asked.ip)
    layout = Layout(asked.out or Path(asked.name))
    wanted = Wanted(profiles.subject_of(asked.name), names, asked.days, serves=True)
    _issue(asked, layout, wanted)
    print(_config(layout))
    return _DONE


def _client(asked: argparse.Namespace) -> int:
    layout = Layout(asked.out or Path(asked.name))
    wanted = Wanted(profiles.subject_of(asked.name), [], asked.days, serves=False)
    _issue(asked, layout, wanted)
    text = f'[access]\n{_LISTS[asked.level]} = ["cert:CN={asked.name}"]'
    print(f"\nfor the configuration of each daemon, beside those that are there:\n\n{text}")
    return _DONE


def _issue(asked: argparse.Namespace, layout: Layout, wanted: Wanted) -> None:
    owner = _owner(asked.owner)
    made = Authority(asked.ca).issue(layout, wanted, force=asked.force, owner=owner)
    print(f"certificate of {asked.name} in {layout.folder}, until {profiles.ends(made)} UTC")


def _renew(asked: argparse.Namespace) -> int:
    layout = Layout(asked.folder)
    owner = _owner(asked.owner)
    authority = Authority(asked.ca)
    made = authority.renew(layout, asked.days, new_key=asked.new_key, owner=owner)
    print(f"certificate in {layout.folder} renewed, until {profiles.ends(made)} UTC")
    return _DONE


def _show(asked: argparse.Namespace) -> int:
    paths = asked.paths or [path for path in (_CA, _HOST) if path.is_dir()]
    found = certificates_in(paths)
    if asked.json:
        print(json.dumps([one.as_json() for one in found], indent=4))
    elif found:
        print("\n".join(_rows(found)))
    else:
        print("none")
    return _FAILED if any(one.days_left < asked.within for one in found) else _DONE


def _rows(found: list[Found]) -> list[str]:
    rows = [
        [safe(one.name), one.kind, one.ends_at, str(one.days_left), safe(str(one.path))]
        for one in found
    ]
    right = [False, False, False, True, False]
    return table(["name", "kind", "ends", "days", "file"], rows, right, plain)


def _owner(name: str | None) -> Owner | None:
    if name is None:
        return None
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise PkiError(f"--owner {name}: there is no such user") from None
    return account.pw_uid, account.pw_gid


def _config(layout: Layout) -> str:
    """What the daemon's configuration needs."""
    lines = [
        "",
        "for the daemon's configuration, under [http], [stomp] or both:",
        "",
        "enabled = true",
    ]
    if layout.folder.absolute() != _HOST:
        lines += [
            f'certificate = "{layout.certificate.absolute()}"',
            f'key = "{layout.key.absolute()}"',
            f'ca = "{layout.ca.absolute()}"',
            "",
            f"(these three are not needed when the folder becomes {_HOST} of the host)",
        ]
    return "\n".join(
        [*lines, "", "the daemon's user must be able to read the key: --owner virtceph"]
    )
