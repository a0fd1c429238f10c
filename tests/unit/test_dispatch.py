"""JSON-RPC 2.0 as the daemon speaks it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from virtceph import errors, log, request
from virtceph.host.secrets import SecretInfo
from virtceph.host.windows import FreezeResult
from virtceph.rpc.audit import Asked
from virtceph.rpc.callers import OVER_HTTP, OVER_STOMP, Caller
from virtceph.rpc.calls import Asking
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.lanes import Lane, LateError
from virtceph.rpc.quota import Quota
from virtceph.schema import load_contract
from virtceph.schema.spec import LEVELS
from virtceph.verbs.registry import load_verbs

VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
KEY = "AQDnever-to-be-seen"
SECRET = {
    "uuid": VM,
    "usageType": "ceph",
    "usageID": "ovirt/x",
    "password": base64.b64encode(KEY.encode()).decode(),
}


class Daemon:
    """A dispatcher over the real contract; each verb answers what the test says."""

    def __init__(self) -> None:
        self.verbs: dict[str, Callable[..., Any]] = {
            "Host.ping2": lambda: None,
            "Host.echo": lambda message: message,
        }
        self.asked: list[dict[str, Any]] = []
        self.contract = load_contract()
        self.lanes = {n: Lane(n, 2, 2) for n in ("libvirt", "agent", "disk", "ceph", "rescue")}
        load_verbs(self.contract)  # for the classes of the parameters
        functions = {name: self._function(name) for name in self.contract.verbs}
        self.caller, self.manner = Caller("unix:alice", "admin", "pid 7"), OVER_HTTP
        self.told: list[Asked] = []
        self.most: dict[str, Any] = {}
        self.dispatcher = Dispatcher(
            self.contract, functions, self.lanes, lambda key: key, self.told.append
        )

    def _function(self, name: str) -> Callable[..., Any]:
        def function(**arguments: Any) -> Any:
            self.asked.append(arguments)
            return self.verbs[name](**arguments)

        return function

    def asking(self) -> Asking:
        return Asking(self.caller, self.manner, **self.most)

    def raw(self, body: bytes | str) -> Any:
        body = body.encode() if isinstance(body, str) else body
        reply = asyncio.run(self.dispatcher.handle(body, self.asking()))
        return None if reply is None else json.loads(reply)

    def ask(self, method: str, params: Any = None, ident: Any = 1) -> Any:
        envelope = {"jsonrpc": "2.0", "method": method, "id": ident}
        return self.raw(json.dumps(envelope if params is None else {**envelope, "params": params}))

    def fails(self, method: str, params: Any = None) -> Any:
        return self.ask(method, params)["error"]


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    for lane in made.lanes.values():
        lane.close()


def test_a_request_is_answered_under_its_id(daemon: Daemon) -> None:
    for ident in (1, "x", None, 1.5, 0, ""):
        expected = {"jsonrpc": "2.0", "result": "hi", "id": ident}
        assert daemon.ask("Host.echo", {"message": "hi"}, ident) == expected


def test_a_verb_that_only_acts_answers_true(daemon: Daemon) -> None:
    assert daemon.ask("Host.ping2")["result"] is True


@pytest.mark.parametrize("params", [{"message": "hi"}, ["hi"]])
def test_parameters_come_by_name_or_by_place(daemon: Daemon, params: Any) -> None:
    assert daemon.ask("Host.echo", params)["result"] == "hi"


@pytest.mark.parametrize("body", ["", "{", "\xff", '"a', '{"jsonrpc": NaN}', '["\\ud800"]'])
def test_what_is_no_json_is_a_parse_error(daemon: Daemon, body: str) -> None:
    reply = daemon.raw(body.encode("latin-1"))
    assert (reply["error"]["code"], reply["id"]) == (-32700, None)


@pytest.mark.parametrize(
    "envelope",
    [
        1,
        "text",
        None,
        [],
        {},
        {"method": "Host.ping2", "id": 1},
        {"jsonrpc": "1.0", "method": "Host.ping2", "id": 1},
        {"jsonrpc": 2.0, "method": "Host.ping2", "id": 1},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "method": 1, "id": 1},
        {"jsonrpc": "2.0", "method": "Host.ping2", "params": 1, "id": 1},
        {"jsonrpc": "2.0", "method": "Host.ping2", "params": None, "id": 1},
        {"jsonrpc": "2.0", "method": "Host.ping2", "id": {}},
        {"jsonrpc": "2.0", "method": "Host.ping2", "id": [1]},
        {"jsonrpc": "2.0", "method": "Host.ping2", "id": True},
    ],
)
def test_what_is_no_request_is_an_invalid_request(daemon: Daemon, envelope: Any) -> None:
    reply = daemon.raw(json.dumps(envelope))
    assert (reply["error"]["code"], reply["id"]) == (-32600, None)
    assert daemon.asked == []


def test_an_unknown_verb_is_not_found(daemon: Daemon) -> None:
    error = daemon.fails("Host.nothing")
    assert (error["code"], error["data"]["method"]) == (-32601, "Host.nothing")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "message"),
        ({"message": 1}, "message"),
        ({"message": "hi", "more": 1}, "more"),
        (["hi", "more"], "params"),
        ([], "message"),
    ],
)
def test_wrong_parameters_name_the_field(daemon: Daemon, params: Any, field: str) -> None:
    error = daemon.fails("Host.echo", params)
    assert (error["code"], error["data"]["field"]) == (-32602, field)
    assert daemon.asked == []


def test_an_impossible_value_has_the_parameters_own_error(daemon: Daemon) -> None:
    assert daemon.fails("VM.thaw", {"vmID": "no uuid"})["code"] == 91
    assert daemon.fails("Host.registerSecrets", {"secrets": [{"uuid": 1}]})["code"] == 72


def test_a_notification_runs_and_has_no_reply(daemon: Daemon) -> None:
    assert daemon.raw('{"jsonrpc":"2.0","method":"Host.echo","params":["x"]}') is None
    assert daemon.asked == [{"message": "x"}]


def test_a_notification_that_fails_has_no_reply(daemon: Daemon) -> None:
    assert daemon.raw('{"jsonrpc":"2.0","method":"Host.nothing"}') is None


def test_a_batch_is_answered_in_its_order_without_its_notifications(daemon: Daemon) -> None:
    def slow(**_all: Any) -> list[Any]:
        import time

        time.sleep(0.02)
        return []

    daemon.verbs["Host.getVMList"] = slow
    batch = [
        {"jsonrpc": "2.0", "method": "Host.getVMList", "id": "a"},
        {"jsonrpc": "2.0", "method": "Host.ping2"},
        1,
        {"jsonrpc": "2.0", "method": "Host.ping2", "id": "b"},
    ]
    replies = daemon.raw(json.dumps(batch))
    assert [reply["id"] for reply in replies] == ["a", None, "b"]
    assert replies[1]["error"]["code"] == -32600


def several(count: int, method: str, **params: Any) -> list[dict[str, Any]]:
    one = {"jsonrpc": "2.0", "method": method, "params": params}
    return [{**one, "id": number} for number in range(count)]


def test_a_batch_of_more_requests_than_may_be_is_refused(daemon: Daemon) -> None:
    daemon.most["max_batch"] = 3
    assert len(daemon.raw(json.dumps(several(3, "Host.ping2")))) == 3
    error = daemon.raw(json.dumps(several(4, "Host.ping2")))["error"]
    assert error["code"] == -32600
    assert "at most 3 requests" in error["message"]


def test_a_batch_whose_replies_are_more_than_may_be_gets_no_more_but_thaws(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.rpc.batch.REPLY_BYTES", 2500)
    daemon.verbs["VM.thaw"] = lambda **_: raise_down()
    daemon.verbs["Host.getVMList"] = lambda **_: ["x" * 1000]
    for method, params in (("Host.echo", {"message": "x" * 1000}), ("VM.thaw", {"vmID": VM})):
        asked = several(9, "Host.echo", message="x" * 1000) + several(1, method, **params)
        replies = daemon.raw(json.dumps(asked))
        busy = [reply["error"]["data"]["lane"] for reply in replies[3:9]]
        assert ["result" in reply for reply in replies[:3]] == [True] * 3
        assert busy == ["batch"] * 6
    assert replies[-1]["error"]["code"] != 1100


def test_requests_of_a_batch_beyond_those_that_may_be_under_way_are_refused(
    daemon: Daemon,
) -> None:
    daemon.most["quota"] = quota = Quota(2)
    gate = threading.Event()
    daemon.verbs["Host.getVMList"] = lambda **_: gate.wait(10) and []

    async def run() -> Any:
        body = json.dumps([*several(4, "Host.getVMList"), *several(1, "Host.ping2")]).encode()
        task = asyncio.create_task(daemon.dispatcher.handle(body, daemon.asking()))
        while quota.taken < 2 or len(daemon.told) < 3:
            await asyncio.sleep(0.01)
        gate.set()
        return json.loads(await task or b"")

    replies = asyncio.run(run())
    assert [reply.get("error", {}).get("code") for reply in replies] == [
        None, None, 1100, 1100, None
    ]  # fmt: skip
    assert quota.taken == 0


def test_others_are_served_while_a_batch_is(daemon: Daemon) -> None:
    async def run() -> list[int]:
        body = json.dumps(several(200, "Host.ping2")).encode()
        batch = asyncio.create_task(daemon.dispatcher.handle(body, daemon.asking()))
        seen = []
        while not batch.done():
            await asyncio.sleep(0)
            seen.append(len(daemon.told))
        return seen

    assert len(set(asyncio.run(run()))) > 100


def test_a_batch_of_notifications_has_no_reply(daemon: Daemon) -> None:
    assert daemon.raw('[{"jsonrpc":"2.0","method":"Host.ping2"}]') is None


def test_an_error_of_the_contract_carries_its_facts(daemon: Daemon) -> None:
    daemon.verbs["VM.thaw"] = raising(errors.ThawNeedsForce(UUID(VM), "bob"))
    error = daemon.fails("VM.thaw", {"vmID": VM})
    assert error["code"] == 77
    assert "bob" in error["message"]
    data = error["data"]
    assert re.fullmatch("[0-9a-f]+", data.pop("requestID"))
    assert data == {
        "error": "ThawNeedsForce",
        "kind": "state",
        "retry": False,
        "vmId": VM,
        "owner": "bob",
    }


def test_only_unavailable_asks_for_a_retry(daemon: Daemon) -> None:
    daemon.verbs["VM.thaw"] = raising(errors.LibvirtUnavailable("gone"))
    assert daemon.fails("VM.thaw", {"vmID": VM})["data"]["retry"] is True


def raising(error: BaseException) -> Callable[..., Any]:
    def function(**_all: Any) -> Any:
        raise error

    return function


WRONG_FACTS = errors.ThawFailed(UUID(VM), KEY)
WRONG_FACTS.vm_id = KEY  # type: ignore[assignment]
NO_SENTENCE = errors.ThawFailed(UUID(VM), KEY)
del NO_SENTENCE.reason


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError(KEY),
        KeyError(KEY),
        AssertionError(KEY),
        errors.NoSuchVolume(KEY),
        errors.KeyRejected(KEY),
        WRONG_FACTS,
        NO_SENTENCE,
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_bug_answers_its_request_id_and_nothing_else(
    daemon: Daemon, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Also an error that the verb's contract does not list, and one whose facts are wrong."""
    daemon.verbs["VM.thaw"] = raising(failure)
    error = daemon.fails("VM.thaw", {"vmID": VM})
    number = error["data"]["requestID"]
    assert error == {
        "code": -32603,
        "message": f"Internal error: see the daemon's log for request {number}",
        "data": {"error": "InternalError", "kind": "internal", "retry": False, "requestID": number},
    }
    assert "jsonrpcserver" not in {record.name.partition(".")[0] for record in caplog.records}


def test_a_result_that_the_contract_does_not_allow_is_a_bug(daemon: Daemon) -> None:
    daemon.verbs["Host.echo"] = lambda message: {"a": KEY}
    error = daemon.fails("Host.echo", ["x"])
    assert error["code"] == -32603
    assert KEY not in json.dumps(error)


def test_while_draining_nothing_new_is_taken(daemon: Daemon) -> None:
    daemon.dispatcher.drain()
    error = daemon.fails("Host.ping2")
    assert (error["code"], error["data"]["error"]) == (5104, "ShuttingDown")
    assert error["data"]["retry"] is True
    assert daemon.asked == []


def test_a_busy_lane_is_told(daemon: Daemon) -> None:
    async def busy(*_all: Any) -> None:
        raise errors.LaneBusy("rescue")

    daemon.lanes["rescue"].run = busy  # type: ignore[method-assign, assignment]
    error = daemon.fails("VM.thaw", {"vmID": VM})
    assert (error["code"], error["data"]["lane"]) == (1100, "rescue")


def test_late_work_is_told_with_its_deadline(daemon: Daemon) -> None:
    async def late(*_all: Any) -> None:
        raise LateError

    daemon.lanes["rescue"].run = late  # type: ignore[method-assign, assignment]
    error = daemon.fails("VM.thaw", {"vmID": VM})
    assert (error["code"], error["data"]["verb"]) == (5103, "VM.thaw")


def test_a_late_verb_is_told_once_also_when_it_ends_after_all(daemon: Daemon) -> None:
    gate = threading.Event()
    daemon.verbs["Host.getVMList"] = lambda **_: gate.wait(10) and []
    lane = daemon.lanes["libvirt"]
    run = lane.run

    def soon(work: Any, _deadline_s: float, key: str | None = None) -> Any:
        return run(work, time.monotonic() + 0.1, key)

    lane.run = soon  # type: ignore[method-assign, assignment]

    async def late() -> Any:
        body = b'{"jsonrpc": "2.0", "method": "Host.getVMList", "id": 1}'
        reply = json.loads(await daemon.dispatcher.handle(body, daemon.asking()) or b"")
        assert lane.facts()["overdue"] == 1
        gate.set()
        while lane.facts()["running"]:
            await asyncio.sleep(0.01)
        return reply

    reply = asyncio.run(late())
    assert reply["error"]["data"]["error"] == "DeadlineExceeded"
    assert [told.outcome for told in daemon.told] == ["DeadlineExceeded"]


def test_a_verb_sees_its_caller_and_its_deadline(daemon: Daemon) -> None:
    seen: list[request.Request] = []
    daemon.verbs["VM.thaw"] = lambda **_all: seen.append(request.current()) or raise_down()  # type: ignore[func-returns-value]
    daemon.fails("VM.thaw", {"vmID": VM})
    assert seen[0].caller == "unix:alice"
    assert 0 < seen[0].left_s() <= daemon.contract.verbs["VM.thaw"].deadline_s


def raise_down() -> None:
    raise errors.VMDown(UUID(VM))


@pytest.mark.parametrize("params", [{"vmID": VM.upper()}, [VM]])
def test_the_lane_is_told_the_key_however_it_is_given(daemon: Daemon, params: Any) -> None:
    keys: list[Any] = []

    async def run(work: Callable[[], Any], _deadline_s: float, key: Any) -> Any:
        keys.append(key)
        return work()

    daemon.lanes["rescue"].run = run  # type: ignore[method-assign, assignment]
    daemon.verbs["VM.thaw"] = raising(errors.VMDown(UUID(VM)))
    daemon.fails("VM.thaw", params)
    assert keys == [VM]


def test_the_log_tells_start_and_finish_with_the_request_and_never_a_secret(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(log._RequestId())
    caplog.handler.setFormatter(logging.Formatter("[%(request)s] %(message)s"))
    caplog.set_level(logging.DEBUG)
    got: list[SecretInfo] = []
    daemon.verbs["Host.registerSecrets"] = lambda secrets, clear: got.extend(secrets)
    daemon.ask("Host.registerSecrets", {"secrets": [SECRET]})
    daemon.verbs["Host.registerSecrets"] = raising(RuntimeError("broken"))
    daemon.ask("Host.registerSecrets", {"secrets": [SECRET]})
    daemon.ask("Host.registerSecrets", {"secrets": [{**SECRET, "usageType": "other"}]})
    assert got[0].password.reveal() == KEY.encode()
    lines = caplog.text.splitlines()
    start = next(line for line in lines if "START Host.registerSecrets" in line)
    finish = next(line for line in lines if "FINISH Host.registerSecrets answer=ok" in line)
    assert start.partition(" ")[0] == finish.partition(" ")[0] != "[-]"
    assert "caller=unix:alice" in start
    assert "********" in start
    assert KEY not in caplog.text
    assert SECRET["password"] not in caplog.text


def test_nothing_is_in_flight_when_all_is_answered(daemon: Daemon) -> None:
    daemon.ask("Host.ping2")
    daemon.verbs["VM.thaw"] = raising(RuntimeError())
    daemon.ask("VM.thaw", [VM])
    assert daemon.dispatcher.in_flight == 0


# --- as engines expect ---


@pytest.fixture
def engine(daemon: Daemon) -> Daemon:
    daemon.manner = OVER_STOMP
    return daemon


def test_an_engine_is_told_code_and_message_and_no_more(engine: Daemon) -> None:
    for failed in (
        engine.ask("Host.nosuch"),
        engine.ask("VM.thaw", {"vmID": "x"}),
        engine.raw("{"),
        engine.raw("[]"),
        engine.raw("5"),
    ):
        assert set(failed["error"]) == {"code", "message"}


def test_an_engines_scalars_may_be_text_and_what_it_says_too_much_is_passed_over(
    engine: Daemon,
) -> None:
    engine.verbs["VM.freeze"] = lambda vm_id, timeout_s: None
    answer = engine.ask("VM.freeze", {"vmID": VM, "timeout": "30", "unknown": 1})
    assert answer["result"] is True
    assert engine.asked == [{"vm_id": UUID(VM), "timeout_s": 30}]


def test_a_verb_answers_an_engine_true_where_it_always_has(daemon: Daemon) -> None:
    daemon.verbs["VM.freeze"] = lambda **_: FreezeResult(UUID(VM), 2, 30.0)
    assert daemon.ask("VM.freeze", {"vmID": VM})["result"]["filesystems"] == 2
    daemon.manner = OVER_STOMP
    assert daemon.ask("VM.freeze", {"vmID": VM})["result"] is True


def test_an_array_of_one_is_answered_by_an_object_and_one_of_two_by_an_array(
    engine: Daemon,
) -> None:
    one = {"jsonrpc": "2.0", "method": "Host.ping2", "id": "a"}
    assert engine.raw(json.dumps([one])) == {"jsonrpc": "2.0", "id": "a", "result": True}
    two = engine.raw(json.dumps([one, {**one, "id": "b"}]))
    assert [reply["id"] for reply in two] == ["a", "b"]


@pytest.mark.parametrize("ident", [0, "", True, [1], {"a": 1}, 1.5])
def test_an_engines_id_is_echoed_whatever_it_is(engine: Daemon, ident: Any) -> None:
    assert engine.ask("Host.ping2", ident=ident)["id"] == ident


def test_replies_have_their_keys_in_the_order_engines_are_used_to(engine: Daemon) -> None:
    body = b'{"jsonrpc": "2.0", "method": "Host.ping2", "id": 1}'
    raw = asyncio.run(engine.dispatcher.handle(body, engine.asking()))
    assert raw == b'{"jsonrpc":"2.0","id":1,"result":true}'


# --- who may what, and what is told of it ---


@pytest.mark.parametrize("level", LEVELS)
def test_every_verb_is_refused_below_its_level_and_not_begun(daemon: Daemon, level: str) -> None:
    daemon.caller = Caller("unix:eve", level)
    for name, spec in daemon.contract.verbs.items():
        answer = daemon.ask(name)
        refused = answer.get("error", {}).get("code") == 5000
        assert refused == (LEVELS.index(level) < LEVELS.index(spec.level)), name
        if refused:
            assert answer["error"]["data"]["level"] == spec.level
    asked = {told.verb for told in daemon.told if told.outcome != "AccessDenied"}
    assert all(Caller("x", level).may(daemon.contract.verbs[name].level) for name in asked)


def test_each_call_is_told_with_its_caller_arguments_and_outcome(daemon: Daemon) -> None:
    daemon.ask("Host.echo", {"message": "hi"})
    daemon.fails("Host.echo", {"message": 5})
    first, second = daemon.told
    assert (first.verb, first.outcome, first.arguments) == ("Host.echo", "ok", {"message": "hi"})
    assert first.caller == daemon.caller
    assert first.elapsed_s >= 0
    # The value is of the wrong kind: nobody knows whether it may be told.
    assert (second.outcome, second.arguments) == ("InvalidParams", {"message": "…"})


def test_what_was_refused_or_late_is_told_too(daemon: Daemon) -> None:
    daemon.caller = Caller("unix:eve", "monitor")
    daemon.fails("Host.registerSecrets", {"secrets": []})
    daemon.caller = Caller("unix:alice", "admin")
    daemon.dispatcher.drain()
    daemon.fails("Host.ping2")
    assert [told.outcome for told in daemon.told] == ["AccessDenied", "ShuttingDown"]


@pytest.mark.parametrize("params", [{"vmID": VM}, [VM]])
def test_what_was_refused_is_told_with_what_it_was_about(daemon: Daemon, params: Any) -> None:
    async def busy(*_all: Any) -> None:
        raise errors.LaneBusy("rescue")

    async def late(*_all: Any) -> None:
        raise LateError

    daemon.caller = Caller("unix:eve", "monitor")
    daemon.fails("VM.thaw", params)
    daemon.caller = Caller("unix:alice", "admin")
    for run in (busy, late):
        daemon.lanes["rescue"].run = run  # type: ignore[method-assign, assignment]
        daemon.fails("VM.thaw", params)
    daemon.dispatcher.drain()
    daemon.fails("VM.freeze", params)
    outcomes = ["AccessDenied", "LaneBusy", "DeadlineExceeded", "ShuttingDown"]
    assert [told.outcome for told in daemon.told] == outcomes
    assert [told.arguments["vm_id"] for told in daemon.told] == [UUID(VM)] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"uuid": "x"},
        {"password": [SECRET["password"]]},
        {"colour": SECRET["password"]},
        {SECRET["password"]: 1},
    ],
)
@pytest.mark.parametrize("level", ["monitor", "admin"])
def test_a_key_of_a_refused_call_is_told_to_nobody(
    daemon: Daemon, level: str, wrong: dict[str, Any]
) -> None:
    daemon.verbs["Host.registerSecrets"] = lambda **_: None
    daemon.caller = Caller("unix:eve", level)
    daemon.ask("Host.registerSecrets", {"secrets": [{**SECRET, **wrong}]})
    daemon.ask("Host.registerSecrets", {"secrets": [SECRET], SECRET["password"]: 1})
    daemon.ask("Host.registerSecrets", [[SECRET], SECRET["password"]])
    lines = [told.line() for told in daemon.told]
    assert len(lines) == 3
    for line in lines:
        assert SECRET["password"] not in line
        assert KEY not in line
    assert lines[1].count("…") == 1
    assert '"secrets"' in lines[1]


def test_a_key_is_told_to_nobody(daemon: Daemon) -> None:
    daemon.verbs["Host.registerSecrets"] = lambda **_: None
    daemon.ask("Host.registerSecrets", {"secrets": [SECRET]})
    (told,) = daemon.told
    line = told.line()
    assert SECRET["password"] not in line
    assert KEY not in line
    assert "ovirt/x" in line
    assert json.loads(line)["caller"] == "unix:alice"
