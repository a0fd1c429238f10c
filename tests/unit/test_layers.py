"""The rules of the architecture: imports run downhill, and modules stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "virtceph"
MAX_LINES = 300
# Above the limit, with the reason.
LONG = {
    "errors.py": "a class for each thing a caller can act on, and nothing else",
    "events.py": "a class for each event, and nothing else",
}
RANKS = {
    **dict.fromkeys(
        (
            *("units", "sensitive", "errors", "events", "files"),
            *("request", "process", "systemd", "__init__"),
        ),
        0,
    ),
    **dict.fromkeys(
        (
            "config",
            "option",
            "optionfile",
            "httpoptions",
            "stompoptions",
            "siteoptions",
            "tlsoptions",
            "log",
            "schema",
            "pki",
        ),
        1,
    ),
    **dict.fromkeys(("virt", "ceph"), 2),
    **dict.fromkeys(("host", "doctor"), 3),
    "verbs": 4,
    "rpc": 5,
    **dict.fromkeys(("client", "engine"), 5),
    **dict.fromkeys(
        (
            *("daemon", "assemble", "datawork", "telling", "servers", "pools", "sockets"),
            *(
                "guard",
                "guarding",
                "clearing",
                "configured",
                "standing",
                "jobresults",
                "cli",
                "manpages",
            ),
        ),
        6,
    ),
}
STRANGERS = {
    *(("virt", "ceph"), ("ceph", "virt"), ("verbs", "rpc"), ("rpc", "verbs")),
    # The doctor works without the daemon, and the daemon without the doctor.
    *(("doctor", "host"), ("host", "doctor"), ("verbs", "doctor"), ("rpc", "doctor")),
    *(("daemon", "doctor"), ("assemble", "doctor"), ("guard", "doctor")),
}
# Of the command line, what knows more of the host than the contract and the client.
CLI_WITH_DOCTOR = {"doctor.py", "adopt.py"}
CLI_KNOWS = {"cli", "client", "schema", "pki", "config"}
OUTSIDE_ONLY_IN = {
    "libvirt": "virt",
    "libvirt_qemu": "virt",
    "rados": "ceph",
    "rbd": "ceph",
    "jsonrpcserver": "rpc",
    "aiohttp": "rpc",
    "prometheus_client": "host",
}
OUTSIDERS = ("client", "engine")
ASYNC_IN = ("rpc", "client", "daemon", "assemble", "servers")


class Import(NamedTuple):
    line: int
    module: str


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part(path: Path) -> str:
    """The package below `virtceph`, or the module itself."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(SOURCE.parents[1])}:{line}"


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every import, also those inside functions; `from x import y` as `x.y`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in line {node.lineno}"
            yield from (Import(node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def inner(module: str) -> str | None:
    """The package of ours that an import reaches, or None."""
    names = module.split(".")
    if names[0] != "virtceph":
        return None
    return names[1] if len(names) > 1 and names[1] in RANKS else "__init__"


def offences(path: Path, text: str) -> list[str]:
    """What the rules say against a file, each with its line."""
    ours, tree = part(path), ast.parse(text)
    found = []
    for line, module in imports(tree):
        outside = module.split(".")[0]
        theirs = inner(module)
        home = OUTSIDE_ONLY_IN.get(outside)
        if home is not None and home != ours:
            found.append(f"{where(path, line)}: only {home}/ imports {outside}")
        if theirs is None:
            continue
        if RANKS[theirs] > RANKS[ours]:
            found.append(f"{where(path, line)}: {ours} imports {theirs}, which is above it")
        if (ours, theirs) in STRANGERS:
            found.append(f"{where(path, line)}: {ours} and {theirs} never meet")
        known = CLI_KNOWS | ({"doctor"} if path.name in CLI_WITH_DOCTOR else set())
        if ours == "cli" and RANKS[theirs] > 0 and theirs not in known:
            found.append(f"{where(path, line)}: cli imports {theirs}, which is the daemon's")
        if ours in OUTSIDERS and theirs != ours and RANKS[theirs] > 1 and theirs not in OUTSIDERS:
            found.append(f"{where(path, line)}: {ours} imports nothing of the daemon")
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and ours not in ASYNC_IN:
            found.append(f"{where(path, node.lineno)}: async only in {', '.join(ASYNC_IN)}")
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downhill(path: Path) -> None:
    assert not (found := offences(path, path.read_text())), "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("host/x.py", "import libvirt", "src/virtceph/host/x.py:1: only virt/ imports libvirt"),
        ("host/x.py", "\nimport rbd as r", "host/x.py:2: only ceph/ imports rbd"),
        ("virt/x.py", "from rados import Rados", "only ceph/ imports rados"),
        ("virt/x.py", "from virtceph.ceph import spec", "virt and ceph never meet"),
        ("virt/x.py", "from virtceph import ceph", "virt and ceph never meet"),
        ("verbs/x.py", "import virtceph.rpc.lanes", "verbs and rpc never meet"),
        (
            "rpc/x.py",
            "def f():\n  from virtceph.verbs import vm",
            "x.py:2: rpc and verbs never meet",
        ),
        ("config.py", "from virtceph.virt import xml", "config imports virt, which is above it"),
        ("errors.py", "from virtceph.log import facts", "errors imports log, which is above it"),
        ("host/x.py", "from virtceph import daemon", "host imports daemon, which is above it"),
        ("client/x.py", "from virtceph.host import jobs", "client imports nothing of the daemon"),
        ("engine/x.py", "from virtceph.rpc import http", "engine imports nothing of the daemon"),
        ("cli/x.py", "from virtceph.host import jobs", "cli imports host, which is the daemon's"),
        ("cli/x.py", "from virtceph.doctor import looking", "cli imports doctor, which is"),
        ("doctor/x.py", "from virtceph.host import vms", "doctor and host never meet"),
        ("daemon.py", "from virtceph.doctor import looking", "daemon and doctor never meet"),
        ("host/x.py", "async def f(): ...", "host/x.py:1: async only in rpc"),
    ],
)
def test_an_offence_is_told_with_its_line(name: str, text: str, told: str) -> None:
    assert told in "\n".join(offences(SOURCE / name, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "host/storage.py",
            "from virtceph.virt.xml import RbdSource\nfrom virtceph.ceph import spec",
        ),
        ("cli/x.py", "from virtceph.client import Client"),
        ("cli/doctor.py", "def f():\n  from virtceph.doctor.looking import look"),
        (
            "doctor/x.py",
            "from virtceph.virt.xml import Domain\nfrom virtceph.ceph.spec import PoolSpec",
        ),
        ("client/x.py", "import asyncio\nfrom virtceph.errors import Failed\nasync def f(): ..."),
        ("virt/x.py", "import libvirt\nfrom virtceph import __version__"),
    ],
)
def test_what_is_allowed_is_allowed(name: str, text: str) -> None:
    assert offences(SOURCE / name, text) == []


def test_every_part_has_a_rank() -> None:
    assert {part(path) for path in files()} <= set(RANKS)


def test_no_module_is_long() -> None:
    sizes = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in files()}
    assert {name for name, size in sizes.items() if size > MAX_LINES} == set(LONG)


def test_no_module_is_called_by_what_says_nothing() -> None:
    nothing = ("utils", "util", "common", "helpers", "helper", "manager", "misc")
    assert not [path for path in files() if any(word in path.stem for word in nothing)]
