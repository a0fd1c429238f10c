"""Events to engines: by the methods that they match on, to those of them that may hear them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from virtceph.host.events import Kept
from virtceph.rpc.feed import Feed
from virtceph.schema import Contract
from virtceph.schema.spec import EventSpec

# Engines split a method at its bars and want four parts.
_OURS = "virtceph"
_NO_SUBJECT = "no_id"
_HOUR_S = 3600.0

# A method, its parameters, and the level that hears it.
Publish = Callable[[str, dict[str, Any], str], None]


class Relay:
    """Publishes what the feed has."""

    def __init__(self, contract: Contract, feed: Feed, publish: Publish) -> None:
        self._contract, self._feed, self._publish = contract, feed, publish

    async def run(self) -> None:
        """Publish everything from now on, until the feed ends."""
        begin = self._feed.events.newest
        async for news in self._feed.read(begin, None, lambda: _HOUR_S):
            for kept in news.events:
                for method, params in self._notices(kept):
                    self._publish(method, params, kept.level)

    def _notices(self, kept: Kept) -> Iterator[tuple[str, dict[str, Any]]]:
        return notices(self._contract.events[kept.name], orjson.loads(kept.params))


def notices(spec: EventSpec, params: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The methods and parameters by which engines are told of an event: in our words, and in those that
    they have always known."""
    ident = _NO_SUBJECT if spec.subject is None else str(params[spec.subject])
    yield f"|{_OURS}|{spec.name}|{ident}", params
    form = spec.engines
    if form is None or (form.when is not None and params[form.when[0]] not in form.when[1]):
        return
    if form.as_map:
        rest = {name: value for name, value in params.items() if name != spec.subject}
        params = {ident: rest}
    yield f"|{form.component}|{form.operation}|{ident}", params
