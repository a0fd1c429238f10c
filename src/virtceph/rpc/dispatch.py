"""From the bytes of a request to the bytes of its reply, by JSON-RPC 2.0.

jsonrpcserver does the dispatch, on a ready-made envelope and with a validator and signatures that
cost nothing; its defaults cost more than all the rest. No exception reaches it: it would put its text
into the reply.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonrpcserver
import orjson

from virtceph import errors, request
from virtceph.log import facts
from virtceph.rpc.lanes import Lane, LateError
from virtceph.schema import Codec, Contract, Mismatch, VerbSpec

log = logging.getLogger(__name__)

# Any verb may meet these, by the way it is run rather than by what it does.
_ALWAYS = ("LaneBusy", "DeadlineExceeded", "ShuttingDown", "InternalError")
_ANY_ARGUMENTS = inspect.signature(lambda *args, **kwargs: None)
_LOGGED_CHARS = 600


@dataclass(frozen=True)
class _Verb:
    spec: VerbSpec
    decode: Callable[[Mapping[str, Any]], dict[str, Any]]
    encode: Callable[[Any], Any]
    function: Callable[..., Any]
    allowed: frozenset[str]


class Dispatcher:
    """Serves the verbs of one contract.

    `lanes` has a Lane for each lane of the contract but `inline`; `cluster_key` tells which cluster a
    storage domain belongs to, so that one dead cluster cannot take every slot.
    """

    def __init__(
        self,
        contract: Contract,
        functions: Mapping[str, Callable[..., Any]],
        lanes: Mapping[str, Lane],
        cluster_key: Callable[[str], str] = str,
    ) -> None:
        self._contract, self._lanes, self._cluster_key = contract, lanes, cluster_key
        self._codec = Codec(contract)
        self._verbs = {name: self._compile(name, functions[name]) for name in contract.verbs}
        self._methods = {name: self._method(verb) for name, verb in self._verbs.items()}
        self._numbers = itertools.count(1)
        self._draining = False
        self.in_flight = 0

    def drain(self) -> None:
        """Answer ShuttingDown to whatever is asked from now on."""
        self._draining = True

    async def handle(self, body: bytes, caller: str) -> bytes | None:
        """The reply to one body; None when there is none to give (only notifications)."""
        try:
            untrusted = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _dump(self._failure(None, errors.ParseError()))
        if not isinstance(untrusted, list):
            reply = await self._one(untrusted, caller)
            return None if reply is None else _dump(reply)
        if not untrusted:
            return _dump(self._failure(None, errors.InvalidRequest("at least one request")))
        replies = await asyncio.gather(*(self._one(entry, caller) for entry in untrusted))
        given = [reply for reply in replies if reply is not None]
        return _dump(given) if given else None

    async def _one(self, untrusted: Any, caller: str) -> dict[str, Any] | None:
        wrong = _envelope_fault(untrusted)
        if wrong is not None:
            return self._failure(None, errors.InvalidRequest(wrong))
        self.in_flight += 1
        try:
            reply = await self._dispatch(untrusted, caller)
        finally:
            self.in_flight -= 1
        return reply if "id" in untrusted else None

    async def _dispatch(self, envelope: dict[str, Any], caller: str) -> dict[str, Any]:
        name, ident = envelope["method"], envelope.get("id")
        verb = self._verbs.get(name)
        if verb is None:
            return self._failure(ident, errors.MethodNotFound(name[:128]))
        # What ends a freeze is served to the end: its caller must not be left with a frozen guest.
        if self._draining and verb.spec.lane != "rescue":
            return self._failure(ident, errors.ShuttingDown())
        spec = verb.spec
        context = request.Request(
            f"{next(self._numbers):x}", caller, time.monotonic() + spec.deadline_s
        )
        if spec.lane == "inline":
            return self._in_context(context, envelope)
        try:
            return await self._lanes[spec.lane].run(
                lambda: self._in_context(context, envelope),
                context.deadline_s,
                self._key(spec, envelope),
            )
        except (errors.LaneBusy, errors.ShuttingDown) as refusal:
            return self._failure(ident, refusal, context.id)
        except LateError:
            log.warning("late %s", facts(verb=name, request=context.id))
            late = errors.DeadlineExceeded(name, spec.deadline_s)
            return self._failure(ident, late, context.id)

    def _key(self, spec: VerbSpec, envelope: dict[str, Any]) -> str | None:
        params = envelope.get("params")
        if spec.key is None or params is None:
            return None
        if isinstance(params, list):
            place = [param.name for param in spec.params].index(spec.key)
            value = params[place] if place < len(params) else None
        else:
            value = params.get(spec.key)
        if not isinstance(value, str):
            return None  # the decoder will refuse it
        return self._cluster_key(value) if spec.lane == "ceph" else value.lower()

    def _in_context(self, context: request.Request, envelope: dict[str, Any]) -> dict[str, Any]:
        """One request through jsonrpcserver, in the thread of its lane."""
        request.enter(context)
        # A notification is given an id here, so that its outcome is logged like any other.
        whole = envelope if "id" in envelope else {**envelope, "id": None}
        reply = jsonrpcserver.dispatch_to_serializable(
            "",
            self._methods,
            deserializer=lambda _text: whole,
            validator=_accept,
        )
        assert isinstance(reply, dict)
        return reply

    def _compile(self, name: str, function: Callable[..., Any]) -> _Verb:
        spec = self._contract.verbs[name]
        return _Verb(
            spec,
            self._codec.params_decoder(spec.params),
            self._codec.encoder(spec.result),
            function,
            frozenset((*self._contract.errors_of(spec), *_ALWAYS)),
        )

    def _method(self, verb: _Verb) -> Callable[..., Any]:
        names = [param.name for param in verb.spec.params]
        level = logging.DEBUG if verb.spec.level == "monitor" else logging.INFO

        def method(*positional: Any, **named: Any) -> Any:
            began_s = time.monotonic()
            try:
                if len(positional) > len(names):
                    raise errors.InvalidParams("params", f"at most {len(names)} values")
                given = named or dict(zip(names, positional, strict=False))
                outcome = jsonrpcserver.Success(self._call(verb, given, level))
                answer = "ok"
            except errors.VirtcephError as error:
                outcome, answer = self._error(error)
            if log.isEnabledFor(level):
                elapsed_s = time.monotonic() - began_s
                log.log(
                    level, "FINISH %s %s", verb.spec.name, facts(answer=answer, elapsed_s=elapsed_s)
                )
            return outcome

        # jsonrpcserver inspects the signature at every call; a ready one costs nothing.
        method.__signature__ = _ANY_ARGUMENTS  # type: ignore[attr-defined]
        return method

    def _call(self, verb: _Verb, given: Mapping[str, Any], level: int) -> Any:
        """Decode, run, encode. Raises only what the verb's contract lists."""
        try:
            arguments = self._decode(verb, given)
            if log.isEnabledFor(level):
                shown = facts(**arguments)[:_LOGGED_CHARS]
                log.log(
                    level, "START %s %s caller=%s", verb.spec.name, shown, request.current().caller
                )
            return verb.encode(verb.function(**arguments))
        except errors.VirtcephError as error:
            if type(error).__name__ in verb.allowed:
                raise
            log.exception("%s raised an error its contract does not list", verb.spec.name)
        except Exception:
            log.exception("%s broke", verb.spec.name)
        raise errors.InternalError(request.current().id)

    def _decode(self, verb: _Verb, given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return verb.decode(given)
        except Mismatch as mismatch:
            raise _told_as(verb.spec, mismatch) from None

    def _error(self, error: errors.VirtcephError) -> tuple[Any, str]:
        """The reply for an error, and how it is logged."""
        try:
            reply = jsonrpcserver.Error(error.code, error.message, self.error_data(error))
            return reply, f"{type(error).__name__}: {error}"
        except Exception:
            log.exception("the facts of %s are wrong", type(error).__name__)
        return self._error(errors.InternalError(request.current().id))

    def error_data(self, error: errors.VirtcephError, request_id: str | None = None) -> Any:
        """The facts of an error as they travel in its `data`."""
        spec = self._contract.errors[type(error).__name__]
        return {
            "error": spec.name,
            "kind": spec.kind,
            "retry": spec.kind == "unavailable",
            "requestID": request_id or request.current().id,
            **self._codec.encode_facts(spec.facts, errors.facts_of(error)),
        }

    def _failure(
        self, ident: Any, error: errors.VirtcephError, request_id: str | None = None
    ) -> dict[str, Any]:
        data = self.error_data(error, request_id)
        body = {"code": error.code, "message": error.message, "data": data}
        return {"jsonrpc": "2.0", "error": body, "id": ident}


def _accept(_envelope: Any) -> None:
    """The envelope was checked before its lane was chosen."""


def _envelope_fault(untrusted: Any) -> str | None:
    """What is wrong with a request's envelope, or None."""
    if not isinstance(untrusted, dict):
        return "an object for each request"
    if untrusted.get("jsonrpc") != "2.0":
        return '`"jsonrpc": "2.0"`'
    if not isinstance(untrusted.get("method"), str):
        return "`method` as a string"
    ident = untrusted.get("id")
    if isinstance(ident, bool) or not isinstance(ident, str | int | float | None):
        return "`id` as a string, a number or null"
    if not isinstance(untrusted.get("params", []), list | dict):
        return "`params` as an array or an object"
    return None


def _told_as(spec: VerbSpec, mismatch: Mismatch) -> errors.VirtcephError:
    """The error that a mismatch is told as: the parameter's own, or by its kind."""
    top = mismatch.field.partition(".")[0].partition("[")[0]
    own = next((param.invalid for param in spec.params if param.name == top), None)
    inside = mismatch.field != top
    if own is not None and (inside or not mismatch.structural):
        return errors.all_errors()[own](mismatch.field, mismatch.expected)
    if mismatch.structural:
        return errors.InvalidParams(mismatch.field, mismatch.expected)
    return errors.InvalidParameter(mismatch.field, mismatch.expected)


def _dump(reply: Any) -> bytes:
    return orjson.dumps(reply)
