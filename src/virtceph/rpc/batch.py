"""A batch of requests: begun one after the other while the loop serves others, answered in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import Any

import orjson

from virtceph.rpc import envelope as envelopes
from virtceph.units import MiB

# A thousand lists of everything there is would else be one reply.
REPLY_BYTES = 16 * MiB

# The reply to one request, or a coroutine that ends with it. Its second argument says that there are replies
# enough: what is not begun is refused.
Begin = Callable[[Any, bool], Any]


async def answered(requests: list[Any], begin: Begin) -> list[Any] | None:
    """The replies, without those to notifications; None where there are no others."""
    # As bytes, since objects take many times as much.
    replies: list[orjson.Fragment | None] = [None] * len(requests)
    size = 0

    def keep(place: int, reply: Any) -> None:
        nonlocal size
        if reply is not None:
            data = envelopes.dump(reply)
            size += len(data)
            replies[place] = orjson.Fragment(data)

    async def wait_for(place: int, coming: Any) -> None:
        keep(place, await coming)

    tasks = []
    for place, request in enumerate(requests):
        outcome = begin(request, size > REPLY_BYTES)
        if type(outcome) is CoroutineType:
            tasks.append(asyncio.create_task(wait_for(place, outcome)))
        else:
            keep(place, outcome)
        await asyncio.sleep(0)
    if tasks:
        # Not gathered: what has begun ends, also when nobody waits for it any more.
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()
    return [reply for reply in replies if reply is not None] or None
