"""Look at a host: libvirt first, then guests and monitors, then clusters; each question side by side with its
like and with a bound. Nothing is changed, but for libvirt's time-out of each agent, which is put back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from virtceph.ceph.appraising import Appraisal, appraise
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.ceph.versions import librbd_version
from virtceph.doctor.bounded import Late, side_by_side
from virtceph.doctor.guests import Guests
from virtceph.doctor.keyfiles import CephConf, libvirt_key_files, read_ceph_conf
from virtceph.doctor.keys import find_secret
from virtceph.doctor.monitors import greet
from virtceph.doctor.seen import AdminSeen, ClusterSeen, HostSeen, Login, MonitorSeen
from virtceph.errors import CephUnavailable, LibvirtUnavailable, VirtcephError
from virtceph.sensitive import Sensitive
from virtceph.virt.inspection import Inspection, LibvirtRefused, VMSeen

_LIBVIRT_S, _GREETING_S, _CEPH_CALL_S = 10.0, 2.0, 3.0
# Some calls of _CEPH_CALL_S each; a cluster that dies half way through does not cost all of them.
_CLUSTER_S = 12.0
_PRIVATE = "its secret is private, so libvirt hands the key to nobody"


@dataclass(frozen=True)
class Where:
    """What to look at."""

    uri: str = "qemu:///system"
    ceph_conf: Path = Path("/etc/ceph/ceph.conf")
    libvirt_folder: Path = Path("/etc/libvirt")
    daemon_socket: str = "/run/virtceph/virtcephd.sock"


# By the secret's name in a disk: its value, or why it is not to be had.
Keys = dict[UUID | str, Sensitive | str]


def look(where: Where) -> HostSeen:
    """See everything. Blocks: as long as the slowest of each kind of question, half a minute at the most on a
    host with a dozen hung guests."""
    host = _libvirt(where)
    host = dataclasses.replace(
        host,
        is_root=os.geteuid() == 0,
        daemon_socket=where.daemon_socket,
        daemon_answers=_answers(where.daemon_socket),
        key_files=libvirt_key_files(where.libvirt_folder),
    )
    if host.vms:
        asked = Guests(host.uri).ask(host.vms)
        host = dataclasses.replace(host, agents=asked.agents, agents_unasked=asked.unasked)
    conf = read_ceph_conf(where.ceph_conf)
    host = dataclasses.replace(host, monitors=_greetings(_named_monitors(host, conf)))
    keys = _keys(host)
    return _clusters(host, conf, keys)


def _libvirt(where: Where) -> HostSeen:
    def survey() -> HostSeen:
        with contextlib.closing(Inspection(where.uri)) as inspection:
            vms = inspection.vms()
            return HostSeen(
                False,
                inspection.uri(),
                {**_versions(), **inspection.versions()},
                vms=tuple(vm for vm in vms if isinstance(vm, VMSeen)),
                unread=tuple(vm.message for vm in vms if not isinstance(vm, VMSeen)),
                secrets=tuple(inspection.secrets()),
            )

    answer = side_by_side({"libvirt": survey}, _LIBVIRT_S)["libvirt"]
    if isinstance(answer, HostSeen):
        return answer
    bare = HostSeen(False, where.uri, _versions())
    if isinstance(answer, LibvirtRefused):
        return dataclasses.replace(bare, libvirt_refused=str(answer))
    if isinstance(answer, Late):
        answer = LibvirtUnavailable(f"no answer within {_LIBVIRT_S:g} s")
    if isinstance(answer, VirtcephError):
        return dataclasses.replace(bare, libvirt_failure=answer)
    raise answer


def _versions() -> dict[str, str]:
    return {"kernel": platform.release(), "librbd": librbd_version()}


def _answers(path: str) -> bool | None:
    """Whether somebody listens on a UNIX socket; None: this user may not ask."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_GREETING_S)
        try:
            peer.connect(path)
        except PermissionError:
            return None
        except OSError:
            return False
    return True


def _named_monitors(host: HostSeen, conf: CephConf | None) -> list[str]:
    named = [a for vm in host.vms for access in vm.accesses for a in access.source.monitors]
    return list(dict.fromkeys([*named, *(conf.monitors if conf is not None else ())]))


def _greetings(addresses: list[str]) -> dict[str, MonitorSeen]:
    def asked(address: str) -> Callable[[], MonitorSeen]:
        return lambda: greet(address, _GREETING_S)

    # A resolver may take longer than the monitor.
    answers = side_by_side({a: asked(a) for a in addresses}, 2 * _GREETING_S, at_once=64)
    return {
        address: answer
        if isinstance(answer, MonitorSeen)
        else MonitorSeen(address, None, "its name was not resolved in time")
        for address, answer in answers.items()
    }


def _keys(host: HostSeen) -> Keys:
    """The value of each secret that a disk names, or why it is not to be had. Only root reads keys, whoever
    else could."""
    named = {login[0] for login in host.logins()} - {None}
    secrets = {name: find_secret(host, name) for name in named if name is not None}
    keys: Keys = dict.fromkeys(secrets, "libvirt has no such secret")
    for name, secret in secrets.items():
        if secret is not None:
            keys[name] = _PRIVATE if secret.private else "only root reads keys"
    wanted = {
        name: secret.uuid
        for name, secret in secrets.items()
        if secret is not None and not secret.private and host.is_root
    }

    def read() -> Keys:
        with contextlib.closing(Inspection(host.uri, read_only=False)) as inspection:
            return {name: _value(inspection, uuid) for name, uuid in wanted.items()}

    answer = side_by_side({"keys": read}, _LIBVIRT_S)["keys"] if wanted else {}
    if isinstance(answer, Exception):
        failure = str(answer) or f"libvirt gave no answer within {_LIBVIRT_S:g} s"
        answer = dict.fromkeys(wanted, failure)
    return {**keys, **answer}


def _value(inspection: Inspection, uuid: UUID) -> Sensitive | str:
    try:
        return inspection.secret_value(uuid)
    except VirtcephError as error:
        return error.message


def _clusters(host: HostSeen, conf: CephConf | None, keys: Keys) -> HostSeen:
    asked: dict[Login, Callable[[], Appraisal]] = {}
    clusters: dict[Login, ClusterSeen] = {}
    for login in host.logins():
        question = _question(host, login, keys)
        if isinstance(question, ClusterSeen):
            clusters[login] = question
        else:
            asked[login] = question
    admin = _administrator(host, conf)
    questions: dict[Login | None, Callable[[], Appraisal]] = dict(asked.items())
    if admin is not None and admin.failure is None and conf is not None:
        questions[None] = _as_administrator(host, conf)
    answers = side_by_side(questions, _CLUSTER_S, at_once=16)
    for login in asked:
        appraisal, failure = _told(answers[login])
        clusters[login] = ClusterSeen(login, appraisal, failure)
    if admin is not None and None in answers:
        appraisal, failure = _told(answers[None])
        admin = dataclasses.replace(admin, appraisal=appraisal, failure=failure)
    host = dataclasses.replace(
        host, clusters=tuple(clusters[login] for login in host.logins()), admin=admin
    )
    return _with_all_monitors(host)


def _told(answer: Appraisal | Exception) -> tuple[Appraisal | None, VirtcephError | None]:
    if isinstance(answer, Appraisal):
        return answer, None
    if isinstance(answer, Late):
        return None, CephUnavailable(f"no answer within {_CLUSTER_S:g} s")
    if isinstance(answer, VirtcephError):
        return None, answer
    raise answer


def _question(host: HostSeen, login: Login, keys: Keys) -> Callable[[], Appraisal] | ClusterSeen:
    """How to ask a cluster as a login, or what is to be said without asking."""
    named, user = login
    using = host.logins()[login]
    monitors = [address for _, access in using for address in access.source.monitors]
    seen = [host.monitors[address] for address in dict.fromkeys(monitors)]
    there = tuple(address for monitor in seen if monitor.latency_s for address in monitor.resolved)
    if seen and not there:
        reasons = ", ".join(f"{monitor.address}: {monitor.failure}" for monitor in seen[:4])
        return ClusterSeen(login, failure=CephUnavailable(reasons))
    if named is None or not user:
        return ClusterSeen(login, unasked="its disks name no secret")
    if not there:
        return ClusterSeen(login, unasked="its disks name no monitors")
    key = keys[named]
    if isinstance(key, str):
        return ClusterSeen(login, unasked=key)
    spec = ClusterSpec(there, user, key, _CEPH_CALL_S)
    pools = dict.fromkeys(PoolSpec(a.source.pool, a.source.namespace) for _, a in using)
    return lambda: appraise(spec, pools)


def _administrator(host: HostSeen, conf: CephConf | None) -> AdminSeen | None:
    if conf is None or conf.keyring is None:
        return None
    there = [a for a in conf.monitors if host.monitors[a].latency_s]
    failure = None if there else CephUnavailable("none of its monitors answers")
    return AdminSeen(conf.keyring, conf.monitors, failure=failure)


def _as_administrator(host: HostSeen, conf: CephConf) -> Callable[[], Appraisal]:
    there = tuple(a for a in conf.monitors if host.monitors[a].latency_s)
    users = [user for _, user in host.logins() if user]
    # Of those disks that lie in this cluster, as far as their monitors' names tell.
    pools = [
        PoolSpec(access.source.pool, access.source.namespace)
        for using in host.logins().values()
        for _, access in using
        if set(conf.monitors).intersection(access.source.monitors)
    ]
    assert conf.key is not None
    spec = ClusterSpec(there, "admin", conf.key, _CEPH_CALL_S)
    return lambda: appraise(spec, dict.fromkeys(pools), users)


def _with_all_monitors(host: HostSeen) -> HostSeen:
    """Greet those monitors too that only the clusters named."""
    addresses = [
        address
        for appraisal in host.appraisals()
        for monitor in appraisal.monitors
        for address in monitor.addresses()
        if address not in host.monitors
    ]
    more: Mapping[str, MonitorSeen] = _greetings(list(dict.fromkeys(addresses)))
    return dataclasses.replace(host, monitors={**host.monitors, **more})
