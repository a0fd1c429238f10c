"""The limits that librbd keeps a client of an image to, as they stand in the image's metadata.

librbd reads them where the image is opened, and again when somebody changes them there (seen with 16.2): a VM
that runs is slowed down or set free at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import rbd

from virtceph.ceph.proxied import remove_metadata

_PREFIX = "conf_"
# librbd's word for each kind of limit; beside each stand its burst, and for how long that lasts.
_KINDS = {
    "iops": "iops",
    "read_iops": "read_iops",
    "write_iops": "write_iops",
    "bandwidth": "bps",
    "read_bandwidth": "read_bps",
    "write_bandwidth": "write_bps",
}
_FACTORS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}


@dataclass(frozen=True)
class Qos:
    """Limits of an image. None: it says nothing, so its pool's holds, where there is one; 0: no limit."""

    iops: int | None = None
    iops_burst: int | None = None
    iops_burst_time_s: int | None = None
    read_iops: int | None = None
    read_iops_burst: int | None = None
    read_iops_burst_time_s: int | None = None
    write_iops: int | None = None
    write_iops_burst: int | None = None
    write_iops_burst_time_s: int | None = None
    bandwidth_bytes_per_s: int | None = None
    bandwidth_burst_bytes_per_s: int | None = None
    bandwidth_burst_time_s: int | None = None
    read_bandwidth_bytes_per_s: int | None = None
    read_bandwidth_burst_bytes_per_s: int | None = None
    read_bandwidth_burst_time_s: int | None = None
    write_bandwidth_bytes_per_s: int | None = None
    write_bandwidth_burst_bytes_per_s: int | None = None
    write_bandwidth_burst_time_s: int | None = None


@dataclass(frozen=True)
class Limit:
    """The names of the three fields that make one limit."""

    rate: str
    burst: str
    burst_time: str


def _limit(kind: str) -> Limit:
    unit = "_bytes_per_s" if kind.endswith("bandwidth") else ""
    return Limit(f"{kind}{unit}", f"{kind}_burst{unit}", f"{kind}_burst_time_s")


LIMITS = tuple(map(_limit, _KINDS))
# The option of librbd by the field of Qos.
_OPTIONS = {
    field: f"rbd_qos_{word}_{part}"
    for limit, word in zip(LIMITS, _KINDS.values(), strict=True)
    for field, part in (
        (limit.rate, "limit"),
        (limit.burst, "burst"),
        (limit.burst_time, "burst_seconds"),
    )
}


def qos_of(metadata: Mapping[str, str]) -> Qos:
    """What an image's metadata says."""
    return _read({o: metadata.get(f"{_PREFIX}{o}") for o in _OPTIONS.values()})


def pool_qos_of(image: rbd.Image) -> Qos:
    """What the image's pool says where the image says nothing. Blocks. Source: rbd_config_image_list."""
    of_pool = {
        option["name"]: option["value"]
        for option in image.config_list()
        if option["source"] == rbd.RBD_CONFIG_SOURCE_POOL
    }
    return _read(of_pool)


def set_qos(image: rbd.Image, limits: Mapping[str, int]) -> None:
    """Let an image that is open for writing have these limits (by the fields of Qos) and no others; only what
    differs is written. Blocks. Source: rbd_metadata_set.

    librbd takes the image's exclusive lock for each, so its owner is to be asked first (see `owner`).
    """
    there = dict(image.metadata_list())
    for field, option in _OPTIONS.items():
        key, value = f"{_PREFIX}{option}", limits.get(field)
        if value is None and key in there:
            remove_metadata(image, key)
        elif value is not None and there.get(key) != str(value):
            image.metadata_set(key, str(value))


def _read(values: Mapping[str, str | None]) -> Qos:
    return Qos(**{field.name: _number(values.get(_OPTIONS[field.name])) for field in fields(Qos)})


def _number(text: str | None) -> int | None:
    """A number as librbd reads it: `1000` or `1K`. It lets nobody write anything else."""
    match = re.fullmatch("([0-9]+)([KMGTPE]?)", text or "")
    return int(match[1]) * _FACTORS.get(match[2], 1) if match else None
