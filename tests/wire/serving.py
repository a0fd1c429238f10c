"""The daemon's own STOMP server in this process, over the real contract and verbs that do next to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import uvloop

from tests.lab.pki import Credentials
from virtceph import config, errors
from virtceph.rpc.access import Access
from virtceph.rpc.audit import Asked, TurnedAway
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.lanes import Lane
from virtceph.rpc.listening import open_tcp
from virtceph.rpc.tcp import StompServer
from virtceph.rpc.tls import ServerTls, TlsFiles
from virtceph.schema import load_contract
from virtceph.verbs.registry import load_verbs

CONTRACT = load_contract()
ADDRESS = "127.0.0.1"
Function = Callable[..., Any]


NOBODY = UUID("00000000-0000-4000-8000-000000000000")


def no_such_vm(vm_id: UUID, **_more: Any) -> None:
    raise errors.NoSuchVM(vm_id)


def if_it_is_there(vm_id: UUID, **_more: Any) -> None:
    """As a verb about a VM: only the nil one is not there."""
    if vm_id == NOBODY:
        raise errors.NoSuchVM(vm_id)


FUNCTIONS: dict[str, Function] = {
    "Host.ping2": lambda: None,
    "Host.echo": lambda message: message,
    "Host.getVMList": lambda **_all: [],
    "VM.getFreezeStatus": no_such_vm,
    "VM.freeze": if_it_is_there,
    "VM.thaw": if_it_is_there,
}


@dataclass
class Served:
    """A running server. `told` has each call as the audit trail is given it."""

    server: StompServer
    dispatcher: Dispatcher
    port: int
    told: list[Asked]
    turned_away: list[TurnedAway]
    loop: asyncio.AbstractEventLoop
    tls: ServerTls | None = None
    _closing: list[Lane] = field(default_factory=list)

    def call(self, function: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        """What a function returns that runs on the server's loop."""

        async def run() -> Any:
            return function()

        return self.run(run(), timeout_s)

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float = 30.0) -> Any:
        """What a coroutine returns that runs on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)


@contextlib.contextmanager
def serving(
    *,
    tls: Credentials | None = None,
    admins: tuple[str, ...] = ("plain:*", "cert:*"),
    operators: tuple[str, ...] = (),
    monitors: tuple[str, ...] = (),
    functions: dict[str, Function] | None = None,
    **stomp: Any,
) -> Iterator[Served]:
    """A server for as long as the block, on a thread and a port of its own. `stomp`: its options."""
    access = {"admins": [*admins], "operators": [*operators], "monitors": [*monitors]}
    files = tls.options() if tls is not None else {}
    options = {"enabled": True, "tls": tls is not None, **files, **stomp}
    settings = config.parse({"access": access, "stomp": options})
    load_verbs(CONTRACT)  # for the classes of the parameters
    verbs = {**FUNCTIONS, **(functions or {})}
    missing: Function = lambda **_all: None  # noqa: E731
    lanes = {n: Lane(n, 8, 64) for n in ("libvirt", "agent", "disk", "ceph", "rescue")}
    told: list[Asked] = []
    dispatcher = Dispatcher(
        CONTRACT,
        {name: verbs.get(name, missing) for name in CONTRACT.verbs},
        lanes,
        str,
        told.append,
    )
    server_tls = None
    if tls is not None:
        server_tls = ServerTls(TlsFiles("stomp", **tls.options()))
    away: list[TurnedAway] = []
    parts = dispatcher, Access(settings.access), settings.stomp, server_tls
    server = StompServer(*parts, away.append)
    listener = open_tcp(ADDRESS, 0, "stomp.address")
    port = listener.getsockname()[1]
    ready, done = threading.Event(), threading.Event()
    made: list[asyncio.AbstractEventLoop] = []
    stop = asyncio.Event()

    async def run() -> None:
        made.append(asyncio.get_running_loop())
        await server.start([listener])
        ready.set()
        await stop.wait()
        await server.close()
        done.set()

    thread = threading.Thread(target=uvloop.run, args=(run(),), name="stomp server")
    thread.start()
    assert ready.wait(10)
    try:
        yield Served(server, dispatcher, port, told, away, made[0], server_tls)
    finally:
        made[0].call_soon_threadsafe(stop.set)
        thread.join(20)
        for lane in lanes.values():
            lane.close()
        assert done.is_set(), "the server did not stop"


def client_tls(credentials: Credentials) -> ssl.SSLContext:
    """As engines' clients have it: a certificate, the authority, and no look at the host's name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(credentials.certificate, credentials.key)
    context.load_verify_locations(credentials.ca)
    return context
