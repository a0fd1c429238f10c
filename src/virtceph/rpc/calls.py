"""Verbs as JSON-RPC calls them: decoded, run, encoded, logged, and told.

jsonrpcserver does the dispatch, on a ready-made envelope and with a validator and signatures that
cost nothing; its defaults cost more than all the rest. No exception reaches it: it would put its text
into the reply.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonrpcserver
from jsonrpcserver.sentinels import NODATA
from oslash.either import Left

from virtceph import errors, request
from virtceph.log import facts
from virtceph.rpc import envelope as envelopes
from virtceph.rpc.audit import Asked
from virtceph.rpc.callers import Caller, Manner
from virtceph.rpc.quota import Quota
from virtceph.schema import Codec, Contract, Mismatch, VerbSpec

log = logging.getLogger(__name__)

# Any verb may meet these, by the way it is run rather than by what it does.
_ALWAYS = ("LaneBusy", "DeadlineExceeded", "ShuttingDown", "InternalError", "AccessDenied")
_LOGGED_CHARS = 600

# It is typed for a text, which ours was before its lane was chosen.
_dispatch: Callable[..., Any] = jsonrpcserver.dispatch_to_response

Told = Callable[[Asked], None]


@dataclass(frozen=True)
class _Verb:
    spec: VerbSpec
    # Strictly or not, as the transport has it.
    decoders: Mapping[bool, Callable[[Mapping[str, Any]], dict[str, Any]]]
    encode: Callable[[Any], Any]
    function: Callable[..., Any]
    allowed: frozenset[str]


@dataclass(frozen=True)
class Asking:
    """Who asks, and how. `flow` is his own word for what he does; `quota` bounds what he has under way, and
    `max_batch` what he may ask in one body. `enough`: he has as much in one reply as he is given."""

    caller: Caller
    manner: Manner
    flow: str = ""
    quota: Quota | None = None
    max_batch: int = 1000
    enough: bool = False


class _AnyArguments(inspect.Signature):
    """jsonrpcserver binds the arguments of every call to the method's signature; ours takes any."""

    def bind(self, *_args: Any, **_kwargs: Any) -> Any:
        """Nothing to do: the decoder tells what is wrong."""


class Ending:
    """How one call ended: the first who knows tells it. A verb that is late goes on, and ends once more when
    its caller has long had his answer."""

    def __init__(self) -> None:
        self._taken = threading.Lock()

    def mine(self) -> bool:
        """Whether nobody told it before. From any thread."""
        return self._taken.acquire(blocking=False)


class Calls:
    """The verbs of one contract, each ready to be called. `told` hears of each call how it ended, in the
    thread that served it."""

    def __init__(
        self, contract: Contract, functions: Mapping[str, Callable[..., Any]], told: Told
    ) -> None:
        self._contract, self._told = contract, told
        self._codec, self._lax = Codec(contract), Codec(contract, strict=False)
        self._verbs = {name: self._compile(name, functions[name]) for name in contract.verbs}
        self._methods = {name: self._method(verb) for name, verb in self._verbs.items()}

    def run(
        self,
        context: request.Request,
        envelope: dict[str, Any],
        asking: Asking,
        ending: Ending | None = None,
    ) -> dict[str, Any]:
        """The reply to one request, whose envelope is right and whose verb is known. Blocks as long as the
        verb does, in the thread of its lane."""
        entered = request.enter(context)
        try:
            # A notification is given an id here, so that its outcome is logged like any other.
            reply = _dispatch(
                envelope if "id" in envelope else {**envelope, "id": None},
                self._methods,
                context=(asking, ending or Ending()),
                deserializer=_as_it_is,
                validator=_accept,
                post_process=_object,
            )
        finally:
            # What never waits is served by the event loop, which goes on with other things.
            request.leave(entered)
        assert isinstance(reply, dict)
        return reply

    def arguments_of(
        self, name: str, envelope: Mapping[str, Any], manner: Manner
    ) -> Mapping[str, Any]:
        """What is told of the arguments of a call that is not begun."""
        verb, params = self._verbs[name], envelope.get("params") or {}
        names = [param.name for param in verb.spec.params]
        given = params if isinstance(params, dict) else dict(zip(names, params, strict=False))
        try:
            return verb.decoders[manner.strict](given)
        except Mismatch:
            return _names_of(verb.spec, given)

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

    def _compile(self, name: str, function: Callable[..., Any]) -> _Verb:
        spec = self._contract.verbs[name]
        return _Verb(
            spec,
            {
                True: self._codec.params_decoder(spec.params),
                False: self._lax.params_decoder(spec.params),
            },
            self._codec.encoder(spec.result),
            function,
            frozenset((*self._contract.errors_of(spec), *_ALWAYS)),
        )

    def _method(self, verb: _Verb) -> Callable[..., Any]:
        names = [param.name for param in verb.spec.params]
        level = logging.DEBUG if verb.spec.level == "monitor" else logging.INFO

        def method(how: tuple[Asking, Ending], *positional: Any, **named: Any) -> Any:
            asking, ending = how
            began_s, call = time.monotonic(), _Call(verb, asking)
            try:
                if len(positional) > len(names):
                    raise errors.InvalidParams("params", f"at most {len(names)} values")
                given = named or dict(zip(names, positional, strict=False))
                outcome = jsonrpcserver.Success(self._call(call, given, level))
                answer = told = "ok"
            except errors.VirtcephError as error:
                outcome, told, answer = self._error(error, asking.manner)
            elapsed_s = time.monotonic() - began_s
            if log.isEnabledFor(level):
                shown = facts(answer=answer, elapsed_s=elapsed_s)
                log.log(level, "FINISH %s %s", verb.spec.name, shown)
            if ending.mine():
                self._told(call.told_as(told, elapsed_s))
            return outcome

        # jsonrpcserver inspects the signature at every call; a ready one costs nothing.
        method.__signature__ = _AnyArguments()  # type: ignore[attr-defined]
        return method

    def _call(self, call: _Call, given: Mapping[str, Any], level: int) -> Any:
        """Decode, run, encode. Raises only what the verb's contract lists."""
        verb, manner = call.verb, call.asking.manner
        try:
            arguments = call.arguments = self._decode(call, given)
            if log.isEnabledFor(level):
                log.log(level, "START %s %s", verb.spec.name, call.shown())
            result = verb.function(**arguments)
            if verb.spec.true_to_engines and manner.as_engines_expect:
                return True
            return verb.encode(result)
        except errors.VirtcephError as error:
            if type(error).__name__ in verb.allowed:
                raise
            log.exception("%s raised an error its contract does not list", verb.spec.name)
        except Exception:
            log.exception("%s broke", verb.spec.name)
        raise errors.InternalError(request.current().id)

    def _decode(self, call: _Call, given: Mapping[str, Any]) -> dict[str, Any]:
        verb = call.verb
        try:
            return verb.decoders[call.asking.manner.strict](given)
        except Mismatch as mismatch:
            call.arguments = _names_of(verb.spec, given)
            raise _told_as(verb.spec, mismatch) from None

    def _error(self, error: errors.VirtcephError, manner: Manner) -> tuple[Any, str, str]:
        """The reply for an error, its name, and how it is logged."""
        name = type(error).__name__
        try:
            told = [error.code, error.message]
            if manner.with_data:
                told.append(self.error_data(error))
            return jsonrpcserver.Error(*told), name, f"{name}: {error}"
        except Exception:
            log.exception("the facts of %s are wrong", name)
        return self._error(errors.InternalError(request.current().id), manner)


@dataclass
class _Call:
    """One call of a verb. Its arguments are known when they are decoded."""

    verb: _Verb
    asking: Asking
    arguments: dict[str, Any] = field(default_factory=dict)

    def shown(self) -> str:
        """For the log."""
        by = {"caller": self.asking.caller.name, "flow": self.asking.flow}
        shown = (
            facts(**self.arguments)[:_LOGGED_CHARS],
            facts(**{k: v for k, v in by.items() if v}),
        )
        return " ".join(filter(None, shown))

    def told_as(self, outcome: str, elapsed_s: float) -> Asked:
        """How it ended."""
        spec, ident = self.verb.spec, request.current().id
        return Asked(
            self.asking.caller, spec.name, spec.level, ident, self.arguments, outcome, elapsed_s
        )


def _as_it_is(envelope: Any) -> Any:
    """It was decoded before its lane was chosen."""
    return envelope


def _object(response: Any) -> dict[str, Any]:
    """A reply, its parts in the order that engines are used to see."""
    if isinstance(response, Left):
        error = response._error
        data = None if error.data is NODATA else error.data
        return envelopes.failure(error.id, error.code, error.message, data)
    success = response._value
    return {"jsonrpc": "2.0", "id": success.id, "result": success.result}


def _accept(_envelope: Any) -> None:
    """The envelope was checked before its lane was chosen."""


def _names_of(spec: VerbSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of arguments that cannot be decoded: which of the verb's own there are. Of their values,
    and of other names, nobody knows what is a secret."""
    return {param.python: "…" for param in spec.params if param.name in given}


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
