"""Data moved in and out: by our verbs, by the `rbd` command and by `qemu-img`, each result checked.

Files lie in memory, so that what is measured is the moving and not the host's disk. (A verb also has its file
on the disk before it is done; the commands do not.)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rbd

from bench.figures import Goal, Row, Samples
from bench.process import environment
from bench.site import Site
from tests.lab import user
from tests.lab.stack import POOL
from virtceph.client import Client, connect

MiB = 1 << 20
SIZE = 1024 * MiB
PIECE = 4 * MiB
ROUNDS = 5
# The first round of all only warms up: memory that nobody had before is slow.
WARM_UP = 1
DENSE, SPARSE = "dense", "sparse"
# How much of an image is filled.
FILLED = {DENSE: 1.0, SPARSE: 1 / 16}
CHANGED = 0.01
OURS, RBD, QEMU = "daemon", "rbd", "qemu-img"
# Ours may take so much of what the faster of the others takes.
FASTER, EQUAL, COPY, DIFF = Goal(1 / 1.5), Goal(1.0), Goal(1 / 1.5), Goal(1 / 1.2)


@dataclass
class Bench:
    """Images and files to move, and how long each way took, in ms."""

    site: Site
    client: Client
    domain: uuid.UUID
    folder: Path
    taken: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def rbd(self, *arguments: str) -> None:
        run("rbd", "-c", str(self.site.ceph.conf), *arguments, "--no-progress")

    def url(self, image: str) -> str:
        return f"rbd:{POOL}/{image}:conf={self.site.ceph.conf}"

    def job(self, method: str, **params: Any) -> None:
        job = str(uuid.uuid4())
        self.client.call(f"Volume.{method}", jobUUID=job, **params)
        told = self.client.wait_for_job(job, 300, told=lambda _job: None)
        assert told["status"] == "done", told

    def on(self, volume: str, **params: Any) -> dict[str, Any]:
        return {"storageDomainID": self.domain, "volumeName": volume, **params}


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, env=environment())


def measure(_site: Site) -> Iterator[Row]:
    """Rows for exports, imports, copies and diffs. Blocks, about 4 minutes."""
    # A site of its own: with the manager away and the monitor's turns as they are by default.
    with Site() as site, _bench(site) as bench:
        for kind, share in FILLED.items():
            _fill(bench, kind, share)
        steps = list(_steps(bench))
        chance = random.Random(4)
        for number in range(WARM_UP + ROUNDS):
            for what, who, act, check in chance.sample(steps, len(steps)):
                began_s = time.monotonic()
                act()
                took_ms = (time.monotonic() - began_s) * 1000
                check()
                if number >= WARM_UP:
                    bench.taken.setdefault((what, who), []).append(took_ms)
        yield from _rows(bench)


@contextlib.contextmanager
def _bench(site: Site) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="virtceph-bench-", dir="/dev/shm"))
    account = user.ensure()
    os.chown(folder, account.uid, account.gid)
    try:
        daemon = site.start_daemon("data", exchange=folder)
        with connect(str(daemon.socket)) as client:
            site.connect_storage(client)
            yield Bench(site, client, site.storage_domain_id, folder)
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def _fill(bench: Bench, kind: str, share: float) -> None:
    """An image `kind` and a file of the same bytes."""
    chance, path = random.Random(5), bench.folder / f"{kind}.in"
    bench.site.ceph.create_image(POOL, kind, SIZE)
    with (
        bench.site.ceph.pool(POOL) as ioctx,
        rbd.Image(ioctx, kind) as image,
        path.open("wb") as file,
    ):
        for offset in range(0, SIZE, int(PIECE / share)):
            data = chance.randbytes(PIECE)
            image.write(data, offset)
            file.seek(offset)
            file.write(data)
        file.truncate(SIZE)
    account = user.ensure()
    os.chown(path, account.uid, account.gid)
    path.chmod(0o600)
    if kind == DENSE:
        _change(bench, kind)


def _change(bench: Bench, image: str) -> None:
    """Snapshots a and b with a hundredth changed between them, in pieces of 64 KiB."""
    chance, step = random.Random(6), 64 << 10
    with bench.site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        opened.create_snap("a")
        before = {}
        for place in chance.sample(range(SIZE // step), int(SIZE * CHANGED) // step):
            before[place] = opened.read(place * step, step)
            opened.write(chance.randbytes(step), place * step)
        opened.create_snap("b")
        for place, data in before.items():
            opened.write(data, place * step)


Step = tuple[str, str, Callable[[], None], Callable[[], None]]


def _steps(bench: Bench) -> Iterator[Step]:
    for kind in FILLED:
        yield from _exports(bench, kind)
        yield from _imports(bench, kind)
    yield from _copies(bench)
    yield from _diffs(bench)


def _exports(bench: Bench, kind: str) -> Iterator[Step]:
    out, what = bench.folder / "out", f"export, {kind}"

    def check() -> None:
        _require_same(out, bench.folder / f"{kind}.in")
        out.unlink()

    yield what, OURS, lambda: bench.job("export", **bench.on(kind, path=str(out))), check
    yield what, RBD, lambda: bench.rbd("export", f"{POOL}/{kind}", str(out)), check
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "raw"]
    yield what, QEMU, lambda: run(*convert, bench.url(kind), str(out)), check


def _imports(bench: Bench, kind: str) -> Iterator[Step]:
    path, new, what = bench.folder / f"{kind}.in", "new", f"import, {kind}"

    def check() -> None:
        _require_image(bench, new, path)

    def by_qemu() -> None:
        bench.rbd("create", f"{POOL}/{new}", "--size", "1G")
        convert = ["qemu-img", "convert", "-n", "-W", "-f", "raw", "-O", "raw"]
        run(*convert, str(path), bench.url(new))

    yield what, OURS, lambda: bench.job("import", **bench.on(new, path=str(path))), check
    yield what, RBD, lambda: bench.rbd("import", str(path), f"{POOL}/{new}"), check
    yield what, QEMU, by_qemu, check


def _copies(bench: Bench) -> Iterator[Step]:
    new, what = "new", "copy"

    def check() -> None:
        _require_image(bench, new, bench.folder / f"{DENSE}.in")

    # Without its snapshots: the head alone is what both are asked for.
    source = "alone"
    bench.rbd("cp", f"{POOL}/{DENSE}", f"{POOL}/{source}")
    yield what, OURS, lambda: bench.job("copy", **bench.on(source, newName=new)), check
    yield what, RBD, lambda: bench.rbd("deep", "cp", f"{POOL}/{source}", f"{POOL}/{new}"), check


def _diffs(bench: Bench) -> Iterator[Step]:
    out, theirs = bench.folder / "diff", bench.folder / "diff.rbd"
    bench.rbd("export-diff", "--from-snap", "a", f"{POOL}/{DENSE}@b", str(theirs))

    def check() -> None:
        _require_same(out, theirs)
        out.unlink()

    params = {"fromSnapshot": "a", "toSnapshot": "b", "path": str(out), "manifest": False}
    ours = bench.on(DENSE, **params)
    words = ("export-diff", "--from-snap", "a", f"{POOL}/{DENSE}@b", str(out))
    what = "exportDiff, 1 % changed"
    yield what, OURS, lambda: bench.job("exportDiff", **ours), check
    yield what, RBD, lambda: bench.rbd(*words), check


def _require_same(path: Path, other: Path) -> None:
    if subprocess.run(["cmp", "-s", str(path), str(other)], check=False).returncode != 0:
        raise AssertionError(f"{path.name} is not {other.name}")


def _require_image(bench: Bench, name: str, path: Path) -> None:
    """Check an image against a file, and remove it."""
    with bench.site.ceph.pool(POOL) as ioctx:
        with rbd.Image(ioctx, name, read_only=True) as image, path.open("rb") as file:
            ours, theirs = hashlib.sha256(), hashlib.sha256()
            for offset in range(0, SIZE, PIECE):
                ours.update(image.read(offset, PIECE))
                theirs.update(file.read(PIECE))
        if ours.digest() != theirs.digest():
            raise AssertionError(f"{name} is not {path.name}")
        rbd.RBD().remove(ioctx, name)


def _rows(bench: Bench) -> Iterator[Row]:
    goals = {
        f"export, {DENSE}": FASTER,
        f"import, {DENSE}": FASTER,
        f"export, {SPARSE}": EQUAL,
        f"import, {SPARSE}": EQUAL,
        "copy": COPY,
        "exportDiff, 1 % changed": DIFF,
    }
    for what, goal in goals.items():
        samples = {
            who: Samples(who, values) for (of, who), values in bench.taken.items() if of == what
        }
        ours = samples.pop(OURS)
        fastest = min(samples.values(), key=lambda one: one.median)
        others = [one for one in samples.values() if one is not fastest]
        note = f"{SIZE / MiB / ours.median * 1000:.0f} MiB/s"
        yield Row(f"1 GiB {what}", "ms", ours, fastest, goal, note, others)
