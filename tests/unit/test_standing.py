"""Configured storage domains are tried until they answer; VMs that waited for a key are started once."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import pytest

from virtceph import errors
from virtceph.host.autostart import Autostart
from virtceph.host.configureddomains import ConfiguredDomains
from virtceph.host.storageinfo import Settings
from virtceph.virt.autostart import FailedStart, secrets_of


def domain(number: int) -> Settings:
    ident = uuid.UUID(int=number)
    return Settings(ident, "", ("10.0.0.1:6789",), "web", uuid.UUID(int=99), "rbd", "")


class FakeStorage:
    """Clusters that answer when they are told to."""

    def __init__(self) -> None:
        self.away: set[Settings] = set()
        self.connected: list[Settings] = []
        self.tried = threading.Semaphore(0)

    def connect(self, settings: Settings) -> None:
        try:
            if settings in self.away:
                raise errors.CephUnavailable("no monitor answers")
            self.connected.append(settings)
        finally:
            self.tried.release()


def test_a_domain_whose_cluster_is_away_is_connected_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage, (one, two) = FakeStorage(), (domain(1), domain(2))
    storage.away = {one}
    keeper = ConfiguredDomains([one, two], storage.connect, retry_s=0.01)
    assert [settings for settings, _ in keeper.missing()] == [one, two]
    keeper.begin()
    for _ in range(10):
        assert storage.tried.acquire(timeout=5)
    assert storage.connected == [two]
    ((missing, reason),) = keeper.missing()
    assert missing == one
    assert "no monitor answers" in reason
    # Many tries, one line.
    assert len([r for r in caplog.records if "not connected" in r.message]) == 1
    storage.away.clear()
    end = threading.Event()
    while keeper.missing():
        assert not end.wait(0.01)
    assert storage.connected == [two, one]


def test_a_closed_one_tries_no_more() -> None:
    storage, one = FakeStorage(), domain(1)
    storage.away = {one}
    keeper = ConfiguredDomains([one], storage.connect, retry_s=0.01)
    keeper.begin()
    assert storage.tried.acquire(timeout=5)
    keeper.close()
    while storage.tried.acquire(timeout=0.2):
        pass
    storage.away.clear()
    assert not storage.tried.acquire(timeout=0.1)
    assert storage.connected == []


KEYS = {"ovirt/web", "00000000-0000-0000-0000-000000000007"}


class FakeStarts:
    """Domains whose start failed."""

    def __init__(self, *failed: FailedStart) -> None:
        self._failed = list(failed)
        self.started: list[str] = []
        self.fails = False
        # So often libvirt does not answer.
        self.silent = 0

    def failed(self) -> list[FailedStart]:
        if self.silent:
            self.silent -= 1
            raise errors.LibvirtUnavailable("libvirt is starting")
        return self._failed

    def start(self, vm_id: uuid.UUID) -> None:
        self.started.append(str(vm_id))
        if self.fails:
            raise errors.LibvirtFailed("start the domain", 1, "no")


def vm(number: int, *secrets: str) -> FailedStart:
    return FailedStart(uuid.UUID(int=number), f"vm{number}", frozenset(secrets))


def run(starts: FakeStarts, folder: Path) -> None:
    Autostart(starts, folder / "autostarted", KEYS, (0.0, 0.0)).run()  # type: ignore[arg-type]


def test_a_vm_that_waited_for_a_key_is_started_once_per_boot(tmp_path: Path) -> None:
    by_uuid, by_usage, other = vm(1, *list(KEYS)[:1]), vm(2, *list(KEYS)[1:]), vm(3, "theirs")
    starts = FakeStarts(by_uuid, by_usage, other)
    run(starts, tmp_path)
    assert starts.started == [str(by_uuid.vm_id), str(by_usage.vm_id)]
    run(starts, tmp_path)
    assert len(starts.started) == 2


def test_one_that_cannot_be_started_is_told_and_the_next_one_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = FakeStarts(vm(1, "ovirt/web"), vm(2, "ovirt/web"))
    starts.fails = True
    run(starts, tmp_path)
    assert len(starts.started) == 2
    assert len([r for r in caplog.records if "VM not started" in r.message]) == 2


@pytest.mark.parametrize(("silent", "started"), [(2, 1), (3, 0)])
def test_libvirt_that_does_not_answer_yet_is_asked_again(
    tmp_path: Path, silent: int, started: int
) -> None:
    starts = FakeStarts(vm(1, "ovirt/web"))
    starts.silent = silent
    run(starts, tmp_path)
    assert len(starts.started) == started


def test_one_that_cannot_be_noted_is_not_started(tmp_path: Path) -> None:
    starts = FakeStarts(vm(1, "ovirt/web"))
    (tmp_path / "autostarted").write_text("no folder")
    run(starts, tmp_path)
    assert starts.started == []


def test_the_secrets_of_a_domain_are_found_wherever_a_disk_names_them() -> None:
    xml = """<domain><devices>
      <disk><auth username='a'><secret type='ceph' uuid='u1'/></auth><source protocol='rbd'/></disk>
      <disk><source protocol='rbd'><auth><secret type='ceph' usage='ovirt/x'/></auth></source></disk>
      <disk><source file='/x'/></disk>
    </devices></domain>"""
    assert secrets_of(xml) == {"u1", "ovirt/x"}
