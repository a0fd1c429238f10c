"""Who uses an image, told of one moment although it takes several questions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import rbd

from virtceph.ceph.imageinfo import users_of

VM, OTHER = 4119, 4300


class Passing:
    """As rbd.Image, and as opened anew: `seen` is who has the lock and who watches, one after the other, each
    told once."""

    def __init__(self, seen: Iterable[int | set[int] | None]) -> None:
        self.left = list(seen)

    def id(self) -> str:
        return "1f2e3d"

    def close(self) -> None:
        """Nothing to give back."""

    def list_lockers(self) -> dict[str, Any] | list[Any]:
        owner = self.left.pop(0)
        assert owner is None or isinstance(owner, int)
        return [] if owner is None else {"lockers": [(f"client.{owner}", "auto 1", "10.0.1.9:0/1")]}

    def watchers_list(self) -> list[dict[str, Any]]:
        found = self.left.pop(0)
        assert isinstance(found, set)
        return [{"id": client, "addr": "10.0.1.9:0/1"} for client in sorted(found)]


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        pytest.param([None, set()], (set(), None), id="nobody"),
        pytest.param([None, {VM}], ({VM}, None), id="open, and not locked"),
        pytest.param([VM, {VM}], ({VM}, VM), id="open and locked"),
        pytest.param([VM, set(), None, set()], (set(), None), id="the owner left meanwhile"),
        pytest.param([VM, {OTHER}, OTHER, {OTHER}], ({OTHER}, OTHER), id="another took its place"),
        pytest.param([VM, set(), VM], (set(), VM), id="the owner no longer watches"),
        pytest.param(
            [1, set(), 2, set(), 3, set(), 4, set(), 5, set(), 6],
            (set(), None),
            id="a new one each time",
        ),
    ],
)
def test_an_owner_that_does_not_watch_is_one_that_was_seen_so_and_not_one_that_left(
    monkeypatch: pytest.MonkeyPatch, seen: list[Any], told: tuple[set[int], int | None]
) -> None:
    image: Any = Passing(seen)
    monkeypatch.setattr(rbd, "Image", lambda *_pool, **_how: image)
    watchers, lock = users_of(image, image)
    assert ({watch.client for watch in watchers}, lock and lock.client) == told
    assert image.left == []
