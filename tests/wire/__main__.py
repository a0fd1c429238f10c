"""`python -m tests.wire HOST:PORT [--tls CERT KEY CA]`: does a server speak as existing engines expect?

Plays every transcript against it, and ends with 1 if one was otherwise. The caller must be let in as an
operator at least. It creates nothing and changes nothing on the host.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys

from tests.wire.player import Target, Transcript, play_all
from tests.wire.tables import ALL, TABLES


def main() -> int:
    """Play, print a table, and say in the status whether all was as it says. Blocks, about a minute."""
    parser = argparse.ArgumentParser(prog="python -m tests.wire", description=__doc__)
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument(
        "--tls", nargs=3, metavar=("CERT", "KEY", "CA"), help="files (PEM); without it plain TCP"
    )
    parser.add_argument(
        "--at-once", type=int, default=1, metavar="N", help="play so many side by side (default 1)"
    )
    arguments = parser.parse_args()
    host, _, port = arguments.server.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"{arguments.server}: expected HOST:PORT")
    try:
        target = Target(host.strip("[]"), int(port), _context(arguments.tls))
        asyncio.run(_look(target))
        outcomes = asyncio.run(play_all(ALL, target, max(1, arguments.at_once)))
    except OSError as error:
        print(f"{arguments.server}: {error}", file=sys.stderr)
        return 1
    _print(outcomes)
    good = sum(outcome is None for outcome in outcomes.values())
    print(f"{good} of {len(outcomes)} as it says")
    return 0 if good == len(outcomes) else 1


def _context(files: list[str] | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    certificate, key, ca = files
    context = ssl.create_default_context(cafile=ca)
    # As the clients of engines do: the host's name is not in its certificate.
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    return context


async def _look(target: Target) -> None:
    """See that somebody is there. Raises OSError."""
    _reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
    writer.close()


def _print(outcomes: dict[str, str | None]) -> None:
    for name, table in TABLES.items():
        print(f"\n{name}")
        for transcript in table:
            print(_line(transcript, outcomes))


def _line(transcript: Transcript, outcomes: dict[str, str | None]) -> str:
    if transcript.says not in outcomes:
        return f"  -     {transcript.says}"
    outcome = outcomes[transcript.says]
    told = [f"  {'ok    ' if outcome is None else 'FAILED'}{transcript.says}"]
    if outcome is not None:
        told.append(f"          {outcome}")
    if transcript.differs:
        told.append(f"          (vdsm: {transcript.differs})")
    return "\n".join(told)


if __name__ == "__main__":
    raise SystemExit(main())
