"""`python -m tests.fuzz TARGET --seconds N`: feed a target with bytes, guided by what they reach in the code.

What is found lies in `.fuzz/TARGET/found/` and fails the run; put it into `tests/fuzz/found/TARGET/`, where
every `make check` tries it again. What reached something new is kept in `.fuzz/TARGET/corpus/`, where a later
run begins.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from pathlib import Path

from tests.lab.state import PROJECT

_NAMES = ("frames", "bodies", "parameters")
# Nothing that a few kilobytes can ask for takes as long.
_HANG_S = 5
_MEMORY_MIB = 700
_LONGEST_BYTES = 4096
_INSTRUMENTED = [
    "virtceph.rpc.stomp",
    "virtceph.rpc.session",
    "virtceph.rpc.topics",
    "virtceph.rpc.sender",
    "virtceph.rpc.dispatch",
    "virtceph.rpc.calls",
    "virtceph.rpc.envelope",
    "virtceph.schema.codec",
    "virtceph.schema.decode",
]


def main() -> int:
    """Run one target. Does not return where the fuzzer could run: it ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=_NAMES)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--folder", type=Path, default=PROJECT / ".fuzz", help="where it is kept")
    asked = parser.parse_args()
    try:
        import atheris
    except ImportError as error:
        print(f"no atheris: {error}; install the extra `fuzz`", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        from tests.fuzz import targets
    logging.disable(logging.CRITICAL)
    corpus, found = (asked.folder / asked.target / name for name in ("corpus", "found"))
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for data in targets.examples()[asked.target]:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    command = [
        sys.argv[0],
        f"-max_total_time={asked.seconds}",
        f"-timeout={_HANG_S}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        f"-max_len={_LONGEST_BYTES}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(command, targets.Bounded(targets.TARGETS[asked.target]()))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
