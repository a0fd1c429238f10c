"""Work on several images at once: in one worker for each storage domain, a thread for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from virtceph import errors
from virtceph.ceph.workers import Call, NoReply, Outcome
from virtceph.host.storage import StorageDomain


class InDomain(Protocol):
    """What lies in a storage domain."""

    @property
    def domain(self) -> StorageDomain: ...


Item = TypeVar("Item", bound=InDomain)
Run = Callable[[StorageDomain, list[Call]], list[Outcome]]


def on_all(
    items: Sequence[Item],
    operation: str,
    arguments: Callable[[Item], Mapping[str, Any]],
    run: Run,
) -> list[tuple[Item, Outcome]]:
    """One operation for each item; `run` gets the calls of one storage domain. Blocks until the last
    is done. What `run` raises becomes the outcome of that domain's items."""
    groups: dict[StorageDomain, list[Item]] = {}
    for item in items:
        groups.setdefault(item.domain, []).append(item)

    def run_group(domain: StorageDomain) -> list[Outcome]:
        calls = [Call(operation, domain.pool, dict(arguments(item))) for item in groups[domain]]
        try:
            return run(domain, calls)
        except errors.VirtcephError as error:
            return [error] * len(calls)

    if not groups:
        return []
    with ThreadPoolExecutor(len(groups), operation) as threads:
        results = list(threads.map(run_group, groups))
    done = [item for group in groups.values() for item in group]
    return list(zip(done, [outcome for result in results for outcome in result], strict=True))


def in_workers(timeout_s: float) -> Run:
    """A `run` that takes workers of each domain's pool, for up to `timeout_s`."""
    return lambda domain, calls: domain.workers.run(calls, timeout_s)


def failure_of(outcome: Outcome, image: str, timeout_s: float) -> errors.VirtcephError | None:
    """The error of an outcome, if it is one; LockOwnerStalled when there was no reply in time."""
    if isinstance(outcome, NoReply):
        if timeout_s == float("inf"):
            return errors.CephUnavailable(f"{image}: the worker process ended; ask again")
        return errors.LockOwnerStalled(image, timeout_s)
    return outcome if isinstance(outcome, errors.VirtcephError) else None


def may_be_made(outcome: Outcome) -> bool:
    """Whether what was asked for is there, or may be: one without a reply, once it had begun."""
    if isinstance(outcome, NoReply):
        return outcome.begun
    return not isinstance(outcome, errors.VirtcephError)
