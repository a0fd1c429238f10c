"""Registering and unregistering secrets, against the same libvirt calls made directly."""

from __future__ import annotations

import os
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator
from uuid import UUID

import libvirt

from bench.figures import Goal, Row, Samples
from bench.site import Site
from tests.lab.secret import USAGE_PREFIX

# Small counts are repeated within a round, so that each sample is some milliseconds at least.
ROUNDS = 9
REPEATS = {1: 20, 100: 2, 1000: 1}
GOAL = Goal(1.3)
KEY = os.urandom(28)


def measure(site: Site) -> Iterator[Row]:
    """A row for each count. Blocks, about 45 s."""
    for count, repeats in REPEATS.items():
        taken: dict[str, list[float]] = {}
        _round(site, count, 1, {})
        for _ in range(ROUNDS):
            _round(site, count, repeats, taken)
        yield _row(count, {name: Samples(name, values) for name, values in taken.items()})


def _row(count: int, by: dict[str, Samples]) -> Row:
    register = by["registerSecrets"].median / by["define and set"].median
    unregister = by["unregisterSecrets"].median / by["look up and undefine"].median
    ours, direct = (_sum("daemon", by, _OURS), _sum("libvirt", by, _DIRECT))
    noun = "secret" if count == 1 else "secrets"
    note = f"register {register:.2f}x, unregister {unregister:.2f}x"
    name = f"{count:,} {noun}, register and unregister"
    return Row(name, "ms", ours, direct, GOAL, note, list(by.values()))


_OURS = ("registerSecrets", "unregisterSecrets")
_DIRECT = ("define and set", "look up and undefine")


def _sum(label: str, by: dict[str, Samples], names: tuple[str, str]) -> Samples:
    pairs = zip(by[names[0]].values, by[names[1]].values, strict=True)
    return Samples(label, [first + second for first, second in pairs])


def _round(site: Site, count: int, repeats: int, taken: dict[str, list[float]]) -> None:
    """Both ways, one after the other; adds the mean of `repeats` to `taken`, in milliseconds."""
    sums: dict[str, float] = {}
    for _ in range(repeats):
        for step, took_ms in (*_through_daemon(site, count), *_directly(site.connection, count)):
            sums[step] = sums.get(step, 0) + took_ms / repeats
    for step, took_ms in sums.items():
        taken.setdefault(step, []).append(took_ms)


def _through_daemon(site: Site, count: int) -> Iterator[tuple[str, float]]:
    idents = [str(uuid.uuid4()) for _ in range(count)]
    password = b64encode(KEY).decode()
    secrets = [
        {
            "uuid": ident,
            "usageType": "ceph",
            "usageID": f"{USAGE_PREFIX}{ident}",
            "password": password,
        }
        for ident in idents
    ]
    begun_s = time.perf_counter()
    site.client.call("Host.registerSecrets", secrets=secrets)
    yield "registerSecrets", _since_ms(begun_s)
    begun_s = time.perf_counter()
    site.client.call("Host.unregisterSecrets", uuids=idents)
    yield "unregisterSecrets", _since_ms(begun_s)


def _directly(connection: libvirt.virConnect, count: int) -> Iterator[tuple[str, float]]:
    idents = [uuid.uuid4() for _ in range(count)]
    texts = [_xml(ident) for ident in idents]
    begun_s = time.perf_counter()
    for text in texts:
        connection.secretDefineXML(text).setValue(KEY)
    yield "define and set", _since_ms(begun_s)
    begun_s = time.perf_counter()
    for ident in idents:
        connection.secretLookupByUUIDString(str(ident)).undefine()
    yield "look up and undefine", _since_ms(begun_s)


def _xml(ident: UUID) -> str:
    usage = f"<usage type='ceph'><name>{USAGE_PREFIX}{ident}</name></usage>"
    return f"<secret ephemeral='yes' private='yes'><uuid>{ident}</uuid>{usage}</secret>"


def _since_ms(begun_s: float) -> float:
    return (time.perf_counter() - begun_s) * 1000
