"""Who calls, and in which manner its transport speaks."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph.schema.spec import LEVELS


@dataclass(frozen=True)
class Caller:
    """An identity (`unix:root`, `tls:engine.example.com`), its level, and where it is: an address, or the
    number of its process."""

    name: str
    level: str
    source: str = ""

    def may(self, level: str) -> bool:
        """Whether it may do what needs a level: each includes the ones before it."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


@dataclass(frozen=True)
class Manner:
    """How requests are read, and how they are answered.

    `strict`: unknown or mistyped parameters are refused, else scalars may be text and unknown names are
    passed over. `with_data`: errors carry their facts. `as_engines_expect`: any JSON value is an id, an array
    of one request is answered by an object, and some verbs answer just `true`.
    """

    strict: bool
    with_data: bool
    as_engines_expect: bool


OVER_HTTP = Manner(strict=True, with_data=True, as_engines_expect=False)
# Of an error an engine reads code and message.
OVER_STOMP = Manner(strict=False, with_data=False, as_engines_expect=True)
