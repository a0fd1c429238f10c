"""Every verb, asked by a caller of every level, over both wires: served from its level on, refused below."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from tests.fakes.http_site import HttpSite
from tests.lab.pki import Authority, Credentials
from tests.wire.clients import PythonLike
from tests.wire.serving import ADDRESS, CONTRACT, Served, client_tls, serving
from virtceph import config
from virtceph.rpc.access import Access
from virtceph.rpc.listening import open_tcp
from virtceph.rpc.tls import ServerTls, TlsFiles
from virtceph.schema.spec import LEVELS

DENIED = 5000
LISTS = {"monitor": "monitors", "operator": "operators", "admin": "admins"}
ACCESS: dict[str, Any] = {LISTS[level]: (f"cert:CN={level}.lab",) for level in LEVELS}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Credentials]:
    authority, folder = Authority(), tmp_path_factory.mktemp("pki")
    names = ["host", *LEVELS, "nobody"]
    return {name: authority.issue(folder / name, f"{name}.lab") for name in names}


@pytest.fixture(scope="module")
def served(pki: dict[str, Credentials]) -> Iterator[Served]:
    with serving(tls=pki["host"], **ACCESS) as served:
        yield served


def check(level: str, denied: dict[str, bool], begun: set[str]) -> None:
    """Refused are those of a higher level, and no others; and what was refused was not begun."""
    too_high = {
        verb.name
        for verb in CONTRACT.verbs.values()
        if LEVELS.index(verb.level) > LEVELS.index(level)
    }
    assert {name for name, was in denied.items() if was} == too_high
    assert set(denied) == set(CONTRACT.verbs)
    assert not begun & too_high


def outcomes(served: Served, since: int) -> set[str]:
    """The verbs that were begun, by what the audit trail is told."""
    return {told.verb for told in served.told[since:] if told.outcome != "AccessDenied"}


@pytest.mark.parametrize("level", LEVELS)
def test_every_verb_over_stomp(served: Served, pki: dict[str, Credentials], level: str) -> None:
    since, client = len(served.told), PythonLike((ADDRESS, served.port), client_tls(pki[level]))
    answers = {name: client.call(name) for name in CONTRACT.verbs}
    client.close()
    denied = {
        name: isinstance(answer, dict) and answer.get("code") == DENIED
        for name, answer in answers.items()
    }
    check(level, denied, outcomes(served, since))


@pytest.mark.parametrize("level", LEVELS)
def test_every_verb_over_https(served: Served, pki: dict[str, Credentials], level: str) -> None:
    since, denied = len(served.told), {}

    async def run() -> None:
        access = Access(config.parse({"access": {k: [*v] for k, v in ACCESS.items()}}).access)
        tls = ServerTls(TlsFiles("http", **pki["host"].options()))
        # The same dispatcher, whose lanes need one loop; so it is asked from here while nobody else does.
        site, listener = HttpSite(served.dispatcher, access, tls=tls), open_tcp(ADDRESS, 0, "x")
        url = f"https://{ADDRESS}:{listener.getsockname()[1]}/jsonrpc"
        await site.start([], [listener])
        connector = aiohttp.TCPConnector(ssl=client_tls(pki[level]))
        async with aiohttp.ClientSession(connector=connector) as http, asyncio.timeout(60):
            for name in CONTRACT.verbs:
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name})
                async with http.post(url, data=body) as reply:
                    answer = await reply.json()
                denied[name] = answer.get("error", {}).get("code") == DENIED
        await site.close()

    uvloop.run(run())
    check(level, denied, outcomes(served, since))


def test_a_caller_of_no_level_is_refused_every_verb(
    served: Served, pki: dict[str, Credentials], tmp_path: Path
) -> None:
    since = len(served.told)
    with pytest.raises(ConnectionError):
        PythonLike((ADDRESS, served.port), client_tls(pki["nobody"])).call("Host.ping2")
    assert served.told[since:] == []
