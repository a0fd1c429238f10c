"""What the doctor makes of what it saw: each fact has its finding, and nothing unseen is called well."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes import seen_host as seen
from virtceph.ceph.cluster import Caps
from virtceph.ceph.monmap import Monitor
from virtceph.cli.doctor import exit_code, shown
from virtceph.config import parse
from virtceph.configured import configured_domains
from virtceph.doctor.catalogue import CATALOGUE, Severity
from virtceph.doctor.page import doctor_page
from virtceph.doctor.report import report
from virtceph.doctor.seen import AdminSeen, AgentSeen, ClusterSeen, HostSeen, KeyFiles, MonitorSeen
from virtceph.doctor.suggest import suggestion
from virtceph.errors import CephPermissionDenied, CephUnavailable, KeyRejected, LibvirtUnavailable
from virtceph.errors import NoSuchPool as NoSuchPoolError
from virtceph.schema import load_contract
from virtceph.virt.agent import FileSystem
from virtceph.virt.xml import Disk

LOGIN = (seen.SECRET, "web")


def codes(host: HostSeen) -> set[str]:
    return {finding.code for finding in report(host).findings}


def cluster(**changes: Any) -> tuple[ClusterSeen, ...]:
    return (ClusterSeen(LOGIN, seen.appraisal(**changes)),)


def pools(**changes: Any) -> tuple[ClusterSeen, ...]:
    return cluster(pools={seen.POOL: seen.pool(**changes)})


def agent(**changes: Any) -> dict[UUID, AgentSeen]:
    return {seen.VM_ID: AgentSeen(**changes)}


def test_a_host_in_order_has_nothing_worse_than_ok() -> None:
    found = report(seen.host())
    assert {f.code for f in found.findings} == {"vm-ready", "cluster-ready"}
    assert exit_code(found.worst) == 0
    assert (found.vms[0].snapshot, found.vms[0].reason) == ("filesystem", "1 file system")


GONE = "10.0.0.9:6789"
UNSEEN = MonitorSeen(GONE, None, "Connection refused", (GONE,))
WITH_GONE = {**seen.host().monitors, GONE: UNSEEN}
FINDINGS: dict[str, dict[str, Any]] = {
    "libvirt-unreachable": {"vms": (), "libvirt_failure": LibvirtUnavailable("gone")},
    "libvirt-refused": {"vms": (), "libvirt_refused": "authentication failed"},
    "version-untested": {"versions": {"libvirt": "8.0.0"}},
    "daemon-absent": {"daemon_answers": False},
    "unseen": {"agents": {}, "agents_unasked": "read only"},
    "vm-ready": {},
    "vm-off": {"vms": (seen.vm(status="Down"),)},
    "vm-paused": {"vms": (seen.vm(status="Paused"),)},
    "agent-absent": {"vms": (seen.vm(agent="absent"),)},
    "agent-disconnected": {"vms": (seen.vm(agent="disconnected"),)},
    "agent-silent": {"agents": agent(silent=True)},
    "agent-failed": {"agents": agent(failure="blocked")},
    "guest-frozen": {"agents": agent(frozen=True)},
    "no-file-system": {"agents": agent(file_systems=(FileSystem("/", ("sda",)),))},
    "disk-unfit": {"vms": (seen.vm(disks=(Disk("vda", "rbd"), Disk("vdb", "block"))),)},
    "disk-file": {"vms": (seen.vm(disks=(Disk("vda", "file", path="/x"),)),)},
    "disk-namespace": {"vms": (seen.vm(accesses=(seen.access(namespace="ns"),)),)},
    "no-rbd-disk": {"vms": (seen.vm(disks=(Disk("vda", "file", path="/x"),)),)},
    "secret-persistent": {"secrets": (seen.secret(ephemeral=False),)},
    "secret-encrypted": {
        "secrets": (seen.secret(ephemeral=False),),
        "key_files": KeyFiles(Path("/s"), {seen.SECRET: Path("/s/x")}, frozenset({seen.SECRET})),
    },
    "secret-readable": {"secrets": (seen.secret(private=False),)},
    "secret-missing": {"secrets": ()},
    "secret-shared": {"vms": (seen.vm(accesses=(seen.access(), seen.access("vdb", user="db"))),)},
    "key-left": {"key_files": KeyFiles(Path("/s"), {UUID(int=1): Path("/s/x.base64")})},
    "admin-keyring": {"admin": AdminSeen(Path("/etc/ceph/k"), (seen.V1,), seen.appraisal())},
    "auth-missing": {"vms": (seen.vm(accesses=(seen.access(secret=None, user=None),)),)},
    "key-rejected": {"clusters": (ClusterSeen(LOGIN, failure=KeyRejected("web")),)},
    "caps-read": {"clusters": pools(failure=CephPermissionDenied("web", "list", "osd"))},
    "caps-write": {"clusters": pools(caps=Caps(True, False, True))},
    "caps-blocklist": {"clusters": pools(caps=Caps(True, True, False))},
    "caps-unknown": {"clusters": pools(caps=Caps(True, True, None))},
    "pool-missing": {"clusters": pools(failure=NoSuchPoolError("rbd"))},
    "pool-unasked": {"clusters": pools(failure=CephUnavailable("no answer"))},
    "pool-nearly-full": {"clusters": pools(used_share=0.9)},
    "cluster-silent": {"clusters": (ClusterSeen(LOGIN, failure=CephUnavailable("no")),)},
    "cluster-ill": {"clusters": cluster(health="HEALTH_ERR")},
    "cluster-unwell": {"clusters": cluster(health="HEALTH_WARN")},
    "cluster-ready": {},
    "cluster-slow": {"clusters": pools(latency_s=2.0)},
    "cluster-client-old": {"clusters": cluster(versions=("18.2.4",))},
    "propose-slow": {"clusters": cluster(propose_interval_s=1.0)},
    "propose-unknown": {"clusters": cluster(propose_interval_s=None)},
    "monitor-gone": {
        "vms": (seen.vm(accesses=(seen.access(monitors=(seen.V1, GONE)),)),),
        "monitors": WITH_GONE,
    },
    "monitors-all-gone": {
        "vms": (seen.vm(accesses=(seen.access(monitors=(GONE,)),)),),
        "monitors": WITH_GONE,
    },
    "monitor-silent": {
        "clusters": cluster(monitors=(seen.MONITOR, Monitor("b", GONE, None))),
        "monitors": WITH_GONE,
    },
    "monitor-unknown": {
        "vms": (seen.vm(accesses=(seen.access(monitors=(GONE,)),)),),
        "monitors": WITH_GONE,
        "clusters": (ClusterSeen(LOGIN, failure=CephUnavailable("no")),),
    },
}


@pytest.mark.parametrize("code", CATALOGUE)
def test_each_kind_of_finding_is_made_of_what_it_says(code: str) -> None:
    found = [f for f in report(seen.host(**FINDINGS[code])).findings if f.code == code]
    assert found
    assert found[0].severity == CATALOGUE[code].severity
    assert "{" not in found[0].sentence + found[0].advice
    assert found[0].subject


@pytest.mark.parametrize("code", set(CATALOGUE) - {"vm-ready", "cluster-ready"})
def test_a_host_in_order_has_none_of_them(code: str) -> None:
    assert code not in codes(seen.host())


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        ("vm-off", "no", "it is off"),
        ("agent-silent", "crash", "does not answer"),
        ("agent-absent", "crash", "no guest agent channel"),
        ("agent-failed", "unknown", "not asked"),
        ("unseen", "unknown", "read only"),
        ("guest-frozen", "crash", "frozen already"),
        ("no-file-system", "crash", "no file system"),
        ("disk-unfit", "no", "vdb cannot be snapshotted"),
        ("no-rbd-disk", "no", "no writable disk in RBD"),
        ("key-rejected", "no", "does not know its key"),
        ("cluster-silent", "no", "does not answer"),
        ("caps-write", "no", "may not write"),
        ("pool-missing", "no", "rbd"),
    ],
)
def test_the_verdict_says_whether_a_snapshot_would_work_and_why_not(
    code: str, expected: str, reason: str
) -> None:
    row = report(seen.host(**FINDINGS[code])).vms[0]
    assert row.snapshot == expected
    assert reason in row.reason


@pytest.mark.parametrize(
    ("worst", "expected"),
    [(Severity.OK, 0), (Severity.NOTE, 0), (Severity.WARNING, 1), (Severity.CRITICAL, 2)],
)
def test_the_exit_code_is_by_the_worst(worst: Severity, expected: int) -> None:
    assert exit_code(worst) == expected


def test_the_gravest_comes_first_and_each_has_what_to_do_below() -> None:
    lines = shown(
        report(seen.host(secrets=(seen.secret(ephemeral=False),), daemon_answers=False)),
        quiet=False,
        colours=False,
    )
    text = "\n".join(lines)
    assert text.index("! warning") < text.index("· note") < text.index("✓ ok")
    assert f"→ virtceph adopt-secret {seen.SECRET}" in text
    assert lines[-1] == "0 critical, 1 warning, 1 note, 2 ok"
    assert "\x1b" not in text


def test_quiet_leaves_out_what_needs_nothing_to_be_done() -> None:
    text = "\n".join(shown(report(seen.host(daemon_answers=False)), quiet=True, colours=False))
    assert "daemon" not in text
    assert "0 critical, 0 warning, 1 note, 2 ok" in text


def test_a_daemon_that_may_not_be_asked_is_not_called_absent() -> None:
    text = "\n".join(shown(report(seen.host(daemon_answers=None)), quiet=False, colours=False))
    assert "virtcephd could not be looked at: no permission for" in text
    assert "does not answer" not in text


def test_a_name_cannot_steer_the_terminal() -> None:
    name = "evil\x1b[2J"
    text = "\n".join(shown(report(seen.host(vms=(seen.vm(name),))), quiet=False, colours=False))
    assert "\x1b" not in text


def test_a_vm_that_could_not_be_read_is_told() -> None:
    found = report(seen.host(unread=("libvirt failed: access denied",))).findings
    assert any(f.code == "unseen" and "access denied" in f.sentence for f in found)


def test_an_encrypted_secret_is_not_called_clear() -> None:
    path = Path("/s/x.aes256cbc")
    files = KeyFiles(Path("/s"), {seen.SECRET: path}, frozenset({seen.SECRET}))
    found = report(seen.host(secrets=(seen.secret(ephemeral=False),), key_files=files)).findings
    assert "secret-persistent" not in {f.code for f in found}
    told = next(f for f in found if f.code == "secret-encrypted")
    assert str(path) in told.sentence


def test_a_monitor_by_name_is_the_one_it_stands_for() -> None:
    name = "mon1.example:6789"
    monitors = {**seen.host().monitors, name: MonitorSeen(name, 0.001, None, (seen.V1,))}
    vms = (seen.vm(accesses=(seen.access(monitors=(name,)),)),)
    assert "monitor-gone" not in codes(seen.host(vms=vms, monitors=monitors))


def test_an_administrator_tells_of_users_whose_keys_are_not_to_be_had() -> None:
    for mon, expected in (("profile rbd", set()), ("allow r", {"caps-blocklist"})):
        told = seen.appraisal(users={"web": {"mon": mon, "osd": "profile rbd"}})
        unasked = (ClusterSeen(LOGIN, unasked="private"),)
        admin = AdminSeen(Path("/k"), (seen.V1,), told)
        found = codes(seen.host(clusters=unasked, admin=admin))
        assert found & {"caps-blocklist", "caps-unknown"} == expected


def test_the_suggestion_is_toml_with_the_monitors_that_there_are_now() -> None:
    vms = (
        seen.vm(accesses=(seen.access(monitors=(seen.V1, GONE)),)),
        seen.vm("db01", accesses=(seen.access("vda", pool="fast", namespace="ns"),)),
        seen.vm("raw", accesses=(seen.access(secret=None, user=None),)),
        # Another cluster's user of the same name.
        seen.vm("far", accesses=(seen.access(secret=UUID(int=7), monitors=(GONE,)),)),
    )
    text = suggestion(seen.host(vms=vms, monitors=WITH_GONE))
    found = tomllib.loads(text)
    assert [s["uuid"] for s in found["secret"]] == [str(seen.SECRET), str(UUID(int=7))]
    assert len({s["usage_id"] for s in found["secret"]}) == 2
    assert len({s["key_file"] for s in found["secret"]}) == 2
    first, second, far = found["storage_domain"]
    assert (first["pool"], first["monitors"], "namespace" in first) == ("rbd", [seen.V1], False)
    assert (second["pool"], second["namespace"]) == ("fast", "ns")
    assert far["monitors"] == [GONE]
    assert len({d["uuid"] for d in found["storage_domain"]}) == 3
    assert "# Left out: raw vda" in text
    assert suggestion(seen.host(vms=vms, monitors=WITH_GONE)) == text


def test_a_suggestion_is_a_configuration_that_the_daemon_takes() -> None:
    vms = (
        seen.vm(accesses=(seen.access(), seen.access("vdb", pool="fast"))),
        # The same secret by its usage, and disks that leave the monitors to ceph.conf.
        seen.vm("db01", accesses=(seen.access(secret="ovirt/web"),)),
        seen.vm("far", accesses=(seen.access(secret=UUID(int=7), monitors=(), pool="p\n[x]"),)),
    )
    text = suggestion(seen.host(vms=vms))
    settings = parse(tomllib.loads(text))
    domains = configured_domains(settings, load_contract())
    assert [domain.pool for domain in domains] == ["rbd", "fast"]
    assert "# Left out: the pool" in text


def test_the_json_has_what_the_page_describes() -> None:
    page = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    answer = report(seen.host()).as_json()
    json.dumps(answer)
    for part in ("vms", "users", "clusters", "monitors", "findings"):
        section = page[page.index(f"`{part}`") :]
        for name in answer[part][0]:
            assert f"`{name}`" in section, f"{part}: {name}"
    assert set(answer) <= set(re.findall(r"`(\w+)`", page))


def test_the_page_has_every_finding() -> None:
    path = Path(__file__).parents[2] / "docs/doctor.md"
    fresh = path.read_text() == doctor_page(path.read_text())
    assert fresh, "docs/doctor.md is stale; renew it: make generate"
