"""Transcripts of JSON-RPC 2.0 as engines speak it."""

from __future__ import annotations

import json
from typing import Any

from tests.wire.frames import frame
from tests.wire.player import Alive, Replies, Reply, Send, Transcript
from tests.wire.table_frames import ASK, SUBSCRIBED

RESPONSES = "jms.topic.vdsm_responses"
NOBODY = "00000000-0000-4000-8000-000000000000"
DEFAULT = Send(frame("SUBSCRIBE", f"destination:{RESPONSES}", "id:r"))


def asked(says: str, body: Any, *replies: Reply, differs: str = "") -> Transcript:
    """A body, and what is replied to the play's own queue."""
    text = body if isinstance(body, str) else json.dumps(body)
    steps = (SUBSCRIBED, Send(frame("SEND", *ASK, body=text)), *replies, Alive())
    return Transcript(says, steps, differs)


def unread(says: str, body: str, code: int | tuple[int, ...], differs: str = "") -> Transcript:
    """A body that cannot be understood: the error has the id null, and goes to the default queue."""
    reply = Reply(None, code=code, to=RESPONSES, sub="r")
    steps = (SUBSCRIBED, DEFAULT, Send(frame("SEND", *ASK, body=body)), reply, Alive())
    return Transcript(says, steps, differs)


def call(method: str, params: Any = None, ident: Any = 1) -> dict[str, Any]:
    envelope = {"jsonrpc": "2.0", "method": method, "id": ident}
    return envelope if params is None else {**envelope, "params": params}


def ping(ident: Any) -> dict[str, Any]:
    return call("Host.ping2", {}, ident)


RPC = [
    *(asked(f"the id {json.dumps(ident)} comes back", ping(ident), Reply(ident))
      for ident in (0, 1, -7, 1.5, "", "text", "ü🐙", 9007199254740993, None, True, [1, 2],
                    {"a": 1})),
    asked("a request may come in an array of one, and is answered by an object",
          [ping(1)], Reply(1)),
    asked("parameters may come by name", call("Host.echo", {"message": "hi"}), Reply(1, "hi")),
    asked("parameters may come by position", call("Host.echo", ["hi"]), Reply(1, "hi")),
    asked("parameters may be missing", call("Host.ping2"), Reply(1)),
    asked("an empty array is no parameters", call("Host.ping2", []), Reply(1)),
    asked("a verb that returns nothing answers true", ping(1), Reply(1, True)),
    asked("unknown parameters are passed over",
          call("Host.ping2", {"unknown": 1, "x": {}}), Reply(1)),
    asked("booleans may be text", call("Host.getVMList", {"fullStatus": "true", "vmList": [NOBODY]}),
          Reply(1, [])),
    asked("a verb's error is its code and a text",
          call("VM.getFreezeStatus", {"vmID": NOBODY}), Reply(1, code=1),
          differs="has no such verb"),
    asked("an error's text is a sentence, with its facts as Python writes them",
          call("VM.thaw", {"vmID": NOBODY}),
          Reply(1, code=1, message=f"Virtual machine does not exist: {{'vmId': '{NOBODY}'}}")),
    asked("numbers may be text", call("VM.freeze", {"vmID": NOBODY, "timeout": "30"}),
          Reply(1, code=1)),
    asked("an unknown method is -32601", call("Host.nosuch"), Reply(1, code=-32601)),
    asked("an unknown class is -32601", call("Nosuch.ping"), Reply(1, code=-32601)),
    asked("a method without a class is -32601", call("ping"), Reply(1, code=-32601)),
    asked("a missing parameter is an error", call("Host.echo", {}), Reply(1, code=(-32602, -32603))),
    asked("too many parameters by position are an error", call("Host.ping2", [1, 2, 3]),
          Reply(1, code=(-32602, -32603))),
    asked("a notification is not answered", {"jsonrpc": "2.0", "method": "Host.ping2"},
          differs="and nothing is, from then on"),
    asked("a notification in an array is not answered",
          [{"jsonrpc": "2.0", "method": "Host.ping2", "params": {}}],
          differs="and nothing is, from then on"),
    asked("several requests in an array are answered by an array", [ping(1), ping("b")],
          Replies((Reply(1), Reply("b"))), differs="not at all"),
    asked("in an array what cannot be understood has the id null",
          [ping(1), 5, call("Host.nosuch", ident=3)],
          Replies((Reply(1), Reply(None, code=-32600), Reply(3, code=-32601))),
          differs="not at all"),
    asked("notifications in an array are left out of the answer",
          [{"jsonrpc": "2.0", "method": "Host.ping2"}, ping(2)],
          Replies((Reply(2),)), differs="and nothing is, from then on"),
    asked("an array of notifications alone is not answered",
          [{"jsonrpc": "2.0", "method": "Host.ping2"}] * 3, differs="and nothing is, from then on"),
    unread("what is no JSON is -32700 with the id null, at the default queue", '{"jsonrpc"', -32700),
    unread("an empty body is -32700", "", -32700),
    unread("half of a surrogate is -32700", '"\\udc80"', -32700, differs="takes it for a text"),
    unread("null as parameters is -32600 with the id null",
           '{"jsonrpc":"2.0","method":"Host.ping2","params":null,"id":1}', -32600),
    unread("text as parameters is -32600 with the id null",
           '{"jsonrpc":"2.0","method":"Host.ping2","params":"x","id":1}', -32600),
    unread("another version of JSON-RPC is -32600",
           '{"jsonrpc":"1.0","method":"Host.ping2","params":{},"id":1}', -32600),
    unread("no version of JSON-RPC is -32600", '{"method":"Host.ping2","params":{},"id":1}', -32600),
    unread("no method is -32600", '{"jsonrpc":"2.0","params":{},"id":1}', -32600),
    unread("a number is no request", "5", (-32600, -32603), differs="answers it twice"),
    unread("an empty array is no request", "[]", -32600),
]  # fmt: skip
