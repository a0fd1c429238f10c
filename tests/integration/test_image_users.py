"""Who uses an image, as librbd tells it: what a handle knows is as old as the handle."""

from __future__ import annotations

import contextlib
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
from virtceph.ceph.imageinfo import lock_of, users_of
from virtceph.ceph.owner import require_answers
from virtceph.ceph.sources import Place, reading, still_version
from virtceph.errors import NoSuchVolume, VolumeChanged


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


def test_an_owner_that_left_is_not_called_stalled(
    ceph: CephCluster, ioctx: rados.Ioctx, name: str
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
        require_answers(ioctx, image, name, "admin", set())
        assert users_of(ioctx, image) == ([], None)


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
    ceph: CephCluster, ioctx: rados.Ioctx, name: str
) -> None:
    cluster: Any = SimpleNamespace(
        spec=SimpleNamespace(user="admin"), new_ioctx=lambda _pool: ioctx.dup()
    )

    def remove_while_reading() -> None:
        with reading(cluster, Place(0, POOL, "", name), None) as source:
            assert source.version is not None
            rbd.RBD().remove(ioctx, name)

    with pytest.raises(NoSuchVolume, match=name):
        remove_while_reading()
