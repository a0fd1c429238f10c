"""What can be refused of a new image's layout before Ceph is asked to make it."""

from __future__ import annotations

from virtceph.ceph.monitors import PoolLimits
from virtceph.ceph.qos import LIMITS, Qos
from virtceph.errors import InvalidParameter

_NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map"}
# A guest's disk has whole sectors: the rest of a last one could not be reached from it.
SECTOR_BYTES = 512
# What librbd lets an object map have.
_MAPPED_OBJECTS = 256_000_000


def require_layout(size_bytes: int, object_size_bytes: int, features: list[str]) -> None:
    """Return if an image can be made so. Raises InvalidParameter."""
    if object_size_bytes & (object_size_bytes - 1):
        raise InvalidParameter("objectSize", "a power of two from 4096 to 33554432")
    for feature in features:
        if _NEEDS.get(feature, feature) not in features:
            raise InvalidParameter("features", f"{_NEEDS[feature]} with {feature}")
    require_whole_sectors(size_bytes)
    most_bytes = _MAPPED_OBJECTS * object_size_bytes
    if "object-map" in features and size_bytes > most_bytes:
        expected = f"at most {most_bytes} bytes with object-map and objects of {object_size_bytes}"
        raise InvalidParameter("size", expected)


def whole_sectors(size_bytes: int) -> int:
    """The smallest size of whole sectors that has room for so much."""
    return -(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES


def require_whole_sectors(size_bytes: int) -> None:
    """Return if a guest can use the whole size. Raises InvalidParameter."""
    if size_bytes % SECTOR_BYTES:
        raise InvalidParameter("size", f"a multiple of {SECTOR_BYTES} bytes, a disk's sector")


def require_within_quota(
    size_bytes: int, pool: str, limits: dict[str, PoolLimits], field: str = "size"
) -> None:
    """Return if the pool could hold the image if it had nothing else. Raises InvalidParameter of `field`."""
    quota_bytes = limits[pool].quota_bytes if pool in limits else None
    if quota_bytes is not None and size_bytes > quota_bytes:
        raise InvalidParameter(field, f"at most {quota_bytes} bytes, the quota of the pool {pool}")


def require_qos(qos: Qos) -> None:
    """Return if librbd can keep a client to these limits: a burst below its limit it refuses, and says so
    only in the log of the client that has the image open. Raises InvalidParameter."""
    for limit in LIMITS:
        rate, burst, time = (
            getattr(qos, name) for name in (limit.rate, limit.burst, limit.burst_time)
        )
        if burst and not rate:
            raise InvalidParameter(f"qos.{_word(limit.burst)}", f"{_word(limit.rate)} with it")
        if burst and burst < rate:
            expected = f"at least {_word(limit.rate)}, {rate}"
            raise InvalidParameter(f"qos.{_word(limit.burst)}", expected)
        if time is not None and not burst:
            raise InvalidParameter(
                f"qos.{_word(limit.burst_time)}", f"{_word(limit.burst)} with it"
            )


def _word(name: str) -> str:
    """The field's name on the wire: `readIopsBurst` of `read_iops_burst`."""
    head, *rest = name.removesuffix("_bytes_per_s").removesuffix("_s").split("_")
    return head + "".join(part.capitalize() for part in rest)
