"""Diff streams against the `rbd` command: what it writes is read, what is written here it takes."""

from __future__ import annotations

import hashlib
import random
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site, remove_if_there
from tests.lab.stack import POOL
from virtceph.ceph.blockhashes import BlockHashes, differing
from virtceph.ceph.diffmerge import Source, merge_diffs
from virtceph.ceph.diffstream import DiffHeader, DiffReader
from virtceph.ceph.diffwriter import DiffWriter, digest_of
from virtceph.ceph.manifest import (
    ManifestHeader,
    ManifestReader,
    ManifestWriter,
    StreamDigest,
    merge_manifests,
)
from virtceph.errors import BadDiff
from virtceph.units import KiB, MiB

SIZES = (24 * MiB, 24 * MiB, 9 * MiB + 512, 30 * MiB + 1024)
NAMES = ("s0", "s1", "s2", "s3")


@pytest.fixture
def cli(site: Site) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["rbd", "-c", str(site.ceph.conf), "--no-progress", *arguments],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def new_image(site: Site) -> Iterator[Callable[..., str]]:
    made: list[str] = []

    def make(size: int, **how: Any) -> str:
        made.append(f"diff-{uuid.uuid4().hex[:8]}")
        with site.ceph.pool(POOL) as ioctx:
            rbd.RBD().create(ioctx, made[-1], size, old_format=False, **how)
        return made[-1]

    yield make
    with site.ceph.pool(POOL) as ioctx:
        for name in made:
            remove_if_there(ioctx, name)


@contextmanager
def opened(site: Site, name: str, snapshot: str | None = None) -> Iterator[rbd.Image]:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name, snapshot=snapshot) as image:
        yield image


def content(site: Site, name: str, snapshot: str | None = None) -> bytes:
    with opened(site, name, snapshot) as image:
        return bytes(image.read(0, image.size()))


def scribble(image: rbd.Image, dice: random.Random) -> None:
    """Some writes and discards, small and large, aligned and not."""
    size = image.size()
    for _ in range(12):
        offset = dice.randrange(0, size - 1) // 512 * 512
        length = min(size - offset, dice.choice((512, 4096, 70_000, 5 * MiB)))
        if dice.random() < 0.6:
            image.write(dice.randbytes(length), offset)
        elif dice.random() < 0.5:
            image.write(bytes(length), offset)
        else:
            image.discard(offset, length)


@pytest.fixture
def history(site: Site, new_image: Callable[..., str]) -> str:
    """An image with four snapshots, between which it was written to, made smaller and larger."""
    name, dice = new_image(SIZES[0]), random.Random(16)
    with opened(site, name) as image:
        for size, snapshot in zip(SIZES, NAMES, strict=True):
            if image.size() != size:
                image.resize(size)
            if snapshot != "s3":
                # What has grown last stays as the resize left it.
                scribble(image, dice)
            image.create_snap(snapshot)
    return name


@pytest.fixture
def exported(tmp_path: Path, cli: Callable[..., str], history: str) -> list[Path]:
    """Its diffs: from nothing to s0, and from each to the next."""
    paths = []
    for before, snapshot in zip((None, *NAMES), NAMES, strict=False):
        paths.append(tmp_path / f"{before}-{snapshot}.diff")
        begin = [] if before is None else ["--from-snap", before]
        cli("export-diff", *begin, f"{POOL}/{history}@{snapshot}", str(paths[-1]))
    return paths


def merged(paths: list[Path], made: Path, base: int | None = None) -> Path:
    with ExitStack() as stack:
        sources = [Source(stack.enter_context(p.open("rb")), p.name) for p in paths]
        merge_diffs(sources, stack.enter_context(made.open("wb")), base_size_bytes=base)
    return made


def imported(
    site: Site, cli: Callable[..., str], name: str, paths: list[Path], snapshot: str | None = None
) -> bytes:
    for path in paths:
        cli("import-diff", str(path), f"{POOL}/{name}")
    return content(site, name, snapshot)


def test_what_the_rbd_command_exports_is_read_and_written_the_same_byte_for_byte(
    site: Site, tmp_path: Path, history: str, exported: list[Path]
) -> None:
    for path, before, snapshot in zip(exported, (None, *NAMES), NAMES, strict=False):
        again = tmp_path / "again.diff"
        with path.open("rb") as theirs, again.open("wb") as ours:
            reader = DiffReader(theirs, path.name)
            assert (reader.header.from_snapshot, reader.header.to_snapshot) == (before, snapshot)
            writer = DiffWriter(ours, reader.header, digest=True)
            for extent in reader.extents():
                if extent.at is None:
                    writer.zeros(extent.offset, extent.length)
                else:
                    writer.begin(extent.offset, extent.length)
                    writer.copy(theirs.fileno(), extent.at, extent.length)
            writer.end()
        assert again.read_bytes() == path.read_bytes()
        assert writer.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_merged_diff_is_imported_by_the_rbd_command_to_the_same_bytes(
    site: Site,
    tmp_path: Path,
    cli: Callable[..., str],
    new_image: Callable[..., str],
    history: str,
    exported: list[Path],
) -> None:
    wanted = content(site, history, "s3")
    all_in_one = merged(exported, tmp_path / "all.diff")
    assert imported(site, cli, new_image(MiB), [all_in_one], "s3") == wanted
    first, rest = exported[0], merged(exported[1:], tmp_path / "rest.diff")
    assert imported(site, cli, new_image(MiB), [first, rest], "s3") == wanted
    leaner = merged(exported[1:], tmp_path / "leaner.diff", SIZES[0])
    assert imported(site, cli, new_image(MiB), [first, leaner], "s3") == wanted
    assert leaner.stat().st_size <= rest.stat().st_size


def test_merging_comes_to_what_merge_diff_of_the_rbd_command_comes_to(
    site: Site,
    tmp_path: Path,
    cli: Callable[..., str],
    new_image: Callable[..., str],
    exported: list[Path],
) -> None:
    """Two at a time, the first of them over an image that has what the shrinking cut off."""
    for first, second in pairwise(exported):
        theirs, ours = tmp_path / "theirs.diff", tmp_path / "ours.diff"
        theirs.unlink(missing_ok=True)
        cli("merge-diff", str(first), str(second), str(theirs))
        merged([first, second], ours)
        before = exported[: exported.index(first)]
        results = [imported(site, cli, new_image(MiB), [*before, path]) for path in (theirs, ours)]
        assert results[0] == results[1]


def test_small_zeros_inside_of_data_arrive(
    site: Site, tmp_path: Path, cli: Callable[..., str], new_image: Callable[..., str]
) -> None:
    """librbd passes over discards of less than an object's granularity: `import-diff` must not."""
    name, path = new_image(8 * MiB), tmp_path / "zeros.diff"
    with opened(site, name) as image:
        image.write(b"x" * 8 * MiB, 0)
    with path.open("wb") as file:
        writer = DiffWriter(file, DiffHeader(None, None, 8 * MiB))
        writer.zeros(1024, 512)
        writer.zeros(4 * MiB - 100, 200)
        writer.end()
    wanted = bytearray(b"x" * 8 * MiB)
    wanted[1024:1536] = bytes(512)
    wanted[4 * MiB - 100 : 4 * MiB + 100] = bytes(200)
    assert imported(site, cli, name, [path]) == bytes(wanted)


def test_other_formats_of_the_rbd_command_are_told_by_their_names(
    tmp_path: Path, cli: Callable[..., str], history: str
) -> None:
    whole = tmp_path / "whole"
    cli("export", "--export-format", "2", f"{POOL}/{history}@s0", str(whole))
    with whole.open("rb") as file, pytest.raises(BadDiff, match="a whole image"):
        DiffReader(file, "whole")


def test_a_diff_of_an_image_with_fancy_striping_is_in_order_too(
    site: Site, tmp_path: Path, cli: Callable[..., str], new_image: Callable[..., str]
) -> None:
    name, path = new_image(16 * MiB, stripe_unit=64 * KiB, stripe_count=4), tmp_path / "a.diff"
    with opened(site, name) as image:
        for _ in range(3):
            scribble(image, random.Random(7))
    cli("export-diff", f"{POOL}/{name}", str(path))
    wanted = content(site, name)
    with path.open("rb") as file:
        for piece in DiffReader(file, "striped").pieces():
            there = wanted[piece.offset : piece.offset + piece.length]
            assert there == (piece.data or bytes(piece.length))


def manifest_of(
    site: Site, folder: Path, name: str, stream: Path, before: tuple[str | None, int]
) -> Path:
    """As an export would write it beside the stream."""
    with stream.open("rb") as file:
        digest = StreamDigest(*digest_of(file))
    path = folder / f"{stream.name}.manifest"
    with stream.open("rb") as file, path.open("wb") as made:
        reader = DiffReader(file, stream.name)
        ends = reader.header
        with opened(site, name, ends.to_snapshot) as image:
            header = ManifestHeader(
                site.ceph.fsid, POOL, "", name, image.id(), *before, ends.to_snapshot, image.size()
            )  # fmt: skip
            writer = ManifestWriter(made, header)
            hashes = BlockHashes(
                before[1], image.size(), header.block_bytes, image.read, writer.block
            )
            for piece in reader.pieces(64 * KiB):
                if piece.data is None:
                    hashes.zeros(piece.offset, piece.length)
                else:
                    hashes.written(piece.offset, piece.data)
            hashes.end()
        writer.end(digest)
    return path


def test_a_restore_is_verified_by_the_manifests_of_what_was_merged(
    site: Site,
    tmp_path: Path,
    cli: Callable[..., str],
    new_image: Callable[..., str],
    history: str,
    exported: list[Path],
) -> None:
    befores = [(None, 0), *zip(NAMES, SIZES, strict=True)]
    manifests = [
        manifest_of(site, tmp_path, history, path, before)
        for path, before in zip(exported, befores, strict=False)
    ]
    made = merged(exported, tmp_path / "all.diff", 0)
    with ExitStack() as stack, (tmp_path / "all.manifest").open("w+b") as file:
        readers = [
            ManifestReader(stack.enter_context(path.open("rb")), path.name) for path in manifests
        ]
        with made.open("rb") as stream:
            told = StreamDigest(*digest_of(stream))
        merge_manifests(readers, file, told)
        file.seek(0)
        reader = ManifestReader(file, "all.manifest")
        blocks = list(reader.blocks())
        assert reader.stream == told
    name = new_image(MiB)
    imported(site, cli, name, [made])
    size, step = reader.header.size_bytes, reader.header.block_bytes
    with opened(site, name) as image:
        assert image.size() == size
        assert list(differing(blocks, size, step, image.read)) == []
        number = blocks[-1][0]
        image.write(b"spoilt", number * step + 100)
        assert list(differing(blocks, size, step, image.read)) == [number]
