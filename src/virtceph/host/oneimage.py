"""One operation on one image, in a worker; and a full pool told as what it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from virtceph import errors
from virtceph.ceph.workers import Call, NoReply
from virtceph.host.storage import StorageDomain

# Time kept of a deadline for the reply itself.
MARGIN_S = 1.0


def run(domain: StorageDomain, operation: str, timeout_s: float, **arguments: Any) -> Any:
    """One operation in a worker of a storage domain: its result, or NoReply when it was killed for being
    late. Its error is raised. Blocks."""
    if timeout_s <= 0:
        return NoReply(begun=False)
    (outcome,) = domain.workers.run([Call(operation, domain.pool, arguments)], timeout_s)
    if isinstance(outcome, errors.VirtcephError):
        raise outcome
    return outcome


@contextlib.contextmanager
def full_told(domain: StorageDomain) -> Iterator[None]:
    """Inside the block a full pool is told as PoolFull. librbd may only time out, or have to be killed, where
    an image's owner waits for room. Blocks after such an error, while the monitors are asked."""
    try:
        yield
    except errors.PoolFull as error:
        raise errors.PoolFull(_full_pools(domain), error.reason) from error
    except (errors.CephUnavailable, errors.LockOwnerStalled) as error:
        if domain.pool.pool in (full := _full_pools(domain)):
            raise errors.PoolFull(full, error.message) from error
        raise


def _full_pools(domain: StorageDomain) -> list[str]:
    try:
        limits = domain.limits()
    except errors.VirtcephError:  # nobody to ask: nothing more can be told
        return []
    return [name for name, limit in limits.items() if limit.full]
