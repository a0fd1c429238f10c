"""Questions side by side, each with its bound: what hangs is left behind, and told."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Guest agents hold up libvirtd's own workers: more than these at once starve it.
_AT_ONCE = 12


_NAME = "doctor-question"


class Late(Exception):
    """No answer in time. The thread that waits for it is left behind."""


def side_by_side(
    questions: Mapping[K, Callable[[], T]], each_s: float, at_once: int = _AT_ONCE
) -> dict[K, T | Exception]:
    """The answer to each question, or what it raised, or Late. Blocks up to `each_s` for each round of
    `at_once` questions; none waits for another's round longer."""
    if not questions:
        return {}
    waiting: queue.SimpleQueue[K] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[K, Any]] = queue.SimpleQueue()
    for key in questions:
        waiting.put(key)

    def work() -> None:
        while True:
            try:
                key = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                answers.put((key, questions[key]()))
            except Exception as error:
                answers.put((key, error))

    threads = min(at_once, len(questions))
    for _ in range(threads):
        # Not joined at the end of the process, as a pool's would be: one may hang for ever.
        threading.Thread(target=work, name=_NAME, daemon=True).start()
    end_s = time.monotonic() + each_s * math.ceil(len(questions) / threads)
    found: dict[K, T | Exception] = dict.fromkeys(questions, Late())
    for _ in questions:
        try:
            key, answer = answers.get(timeout=max(0.0, end_s - time.monotonic()))
        except queue.Empty:
            break
        found[key] = answer
    return found


def left_behind() -> bool:
    """Whether some question still waits for its answer."""
    return any(thread.name == _NAME for thread in threading.enumerate())
