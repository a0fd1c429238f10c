"""How long each step of a sequence took."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """One step, in monotonic seconds."""

    label: str
    begun_s: float
    ended_s: float

    @property
    def length_s(self) -> float:
        """How long it took."""
        return self.ended_s - self.begun_s


@dataclass
class Timeline:
    """Spans in the order in which they ended."""

    spans: list[Span] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Time the block."""
        begun_s = time.monotonic()
        try:
            yield
        finally:
            self.spans.append(Span(label, begun_s, time.monotonic()))

    @property
    def whole_s(self) -> float:
        """From the beginning of the first span to the end of the last."""
        return self.spans[-1].ended_s - self.spans[0].begun_s
