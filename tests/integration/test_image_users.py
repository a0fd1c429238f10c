"""Who uses an image, as librbd tells it: what a handle knows is as old as the handle."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import rados
import rbd

from tests.integration.datawork import remove_if_there
from tests.lab.ceph import CephCluster
from tests.lab.stack import POOL
from virtceph.ceph.imageinfo import lock_of, users_of, watchers_of
from virtceph.ceph.owner import require_answers, silent_owners
from virtceph.ceph.sources import Place, reading, still_version
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import CephUnavailable, LockOwnerStalled, NoSuchVolume, VolumeChanged


@pytest.fixture
def ioctx(ceph: CephCluster) -> Iterator[rados.Ioctx]:
    with ceph.pool(POOL) as opened:
        yield opened


@pytest.fixture
def name(ceph: CephCluster, ioctx: rados.Ioctx) -> Iterator[str]:
    """An image that nobody has open."""
    made = f"users-{uuid.uuid4().hex[:8]}"
    ceph.create_image(POOL, made, 4 << 20)
    yield made
    remove_if_there(ioctx, made)


@contextlib.contextmanager
def writing(ceph: CephCluster, name: str) -> Iterator[None]:
    """Somebody else has the image open, and its lock."""
    with ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.write(b"x", 0)
        yield


@pytest.fixture
def cluster(ioctx: rados.Ioctx) -> Any:
    """As a Cluster: the connection that `ioctx` belongs to."""
    return SimpleNamespace(
        spec=SimpleNamespace(user="admin"),
        client_id=0,
        ioctx=lambda _pool: ioctx,
        new_ioctx=lambda _pool: ioctx.dup(),
    )


def test_an_owner_that_left_is_not_called_stalled(
    ceph: CephCluster, cluster: Any, ioctx: rados.Ioctx, name: str
) -> None:
    with contextlib.ExitStack() as later:
        with writing(ceph, name):
            image = later.enter_context(rbd.Image(ioctx, name, read_only=True))
            held = lock_of(image)
            assert held is not None
            watchers, told = users_of(ioctx, image)
            assert ([watch.client for watch in watchers], told) == ([held.client], held)
        # The trap: the handle has not heard that it is gone.
        assert lock_of(image) == held
        require_answers(cluster, PoolSpec(POOL), image, name, set())
        assert users_of(ioctx, image) == ([], None)


# Opens an image, takes its lock if it is to, says so, and closes it in the end.
_OPENS = """
import rados, rbd, sys
client = rados.Rados(conffile=sys.argv[1]); client.connect()
image = rbd.Image(client.open_ioctx(sys.argv[2]), sys.argv[3])
if sys.argv[4] == "write": image.write(b"x", 0)
print(client.get_instance_id(), flush=True); sys.stdin.read(); image.close()
"""


@contextlib.contextmanager
def halted(ceph: CephCluster, name: str, what: str) -> Iterator[int]:
    """Another process that has the image open, and stands still: its number as a client."""
    argv = [sys.executable, "-c", _OPENS, str(ceph.conf), POOL, name, what]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        client = int(other.stdout.readline())
        other.send_signal(signal.SIGSTOP)
        try:
            yield client
        finally:
            other.send_signal(signal.SIGCONT)
            other.communicate(timeout=30)


def test_an_owner_that_stands_still_is_told(
    ceph: CephCluster, cluster: Any, ioctx: rados.Ioctx, name: str
) -> None:
    with halted(ceph, name, "write") as owner, rbd.Image(ioctx, name, read_only=True) as image:
        assert silent_owners(cluster, PoolSpec(POOL), image, name) == {owner}
        with pytest.raises(LockOwnerStalled):
            require_answers(cluster, PoolSpec(POOL), image, name, set())


def test_an_owner_that_lives_is_not_blamed_for_a_bystander_that_stands_still(
    ceph: CephCluster, cluster: Any, ioctx: rados.Ioctx, name: str
) -> None:
    with (
        writing(ceph, name),
        halted(ceph, name, "read") as other,
        rbd.Image(ioctx, name, read_only=True) as image,
    ):
        with pytest.raises(CephUnavailable, match="not all of them answer"):
            require_answers(cluster, PoolSpec(POOL), image, name, set())
        assert other in {watch.client for watch in watchers_of(image)}


def test_a_head_that_was_locked_after_it_was_opened_is_not_still(
    ceph: CephCluster, ioctx: rados.Ioctx, name: str
) -> None:
    with rbd.Image(ioctx, name, read_only=True) as image:
        before = still_version(ioctx, image, name)
        with writing(ceph, name):
            assert lock_of(image) is None
            with pytest.raises(VolumeChanged):
                still_version(ioctx, image, name)
        assert still_version(ioctx, image, name) != before


def test_a_head_that_was_removed_while_it_was_read_is_told_as_gone(
    cluster: Any, ioctx: rados.Ioctx, name: str
) -> None:
    def remove_while_reading() -> None:
        with reading(cluster, Place(0, POOL, "", name), None) as source:
            assert source.version is not None
            rbd.RBD().remove(ioctx, name)

    with pytest.raises(NoSuchVolume, match=name):
        remove_while_reading()
