"""From the bytes of a request to the bytes of its reply, by JSON-RPC 2.0: who may ask, and in which lane it
is served. What a verb does with it is in `calls`."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any

import orjson

from virtceph import errors, request
from virtceph.log import facts
from virtceph.rpc import envelope as envelopes
from virtceph.rpc.audit import Asked
from virtceph.rpc.batch import answered
from virtceph.rpc.calls import Asking, Calls, Ending, Told
from virtceph.rpc.lanes import Lane, LateError
from virtceph.rpc.quota import Quota
from virtceph.schema import Contract, VerbSpec

log = logging.getLogger(__name__)


class Dispatcher:
    """Serves the verbs of one contract.

    `lanes` has a Lane for each lane of the contract but `inline`; `cluster_key` tells which cluster a
    storage domain belongs to, so that one dead cluster cannot take every slot. `told` hears of each call
    of a verb how it ended, in the thread that served it.
    """

    def __init__(
        self,
        contract: Contract,
        functions: Mapping[str, Callable[..., Any]],
        lanes: Mapping[str, Lane],
        cluster_key: Callable[[str], str] = str,
        told: Told = lambda _asked: None,
    ) -> None:
        self._contract, self._lanes, self._cluster_key = contract, lanes, cluster_key
        self._told = told
        self._calls = Calls(contract, functions, told)
        self._numbers = itertools.count(1)
        self._draining = False
        self.in_flight = 0

    def drain(self) -> None:
        """Answer ShuttingDown to whatever is asked from now on."""
        self._draining = True

    async def handle(self, body: bytes, asking: Asking) -> bytes | None:
        """The reply to one body; None when there is none to give (only notifications)."""
        outcome = self.begin(body, asking)
        reply = await outcome if type(outcome) is CoroutineType else outcome
        return None if reply is None else envelopes.dump(reply)

    def begin(self, body: bytes, asking: Asking) -> Any:
        """The reply before it is made bytes, where it is there at once, as with a verb that never waits; else
        a coroutine that ends with it, and that has to be run."""
        try:
            untrusted = envelopes.load(body)
        except orjson.JSONDecodeError:
            return self._failure(None, errors.ParseError(), asking)
        if not isinstance(untrusted, list):
            return self._one(untrusted, asking)
        if len(untrusted) == 1 and asking.manner.as_engines_expect:
            return self._one(untrusted[0], asking)
        if not 0 < len(untrusted) <= asking.max_batch:
            wanted = f"at most {asking.max_batch} requests" if untrusted else "at least one request"
            return self._failure(None, errors.InvalidRequest(wanted), asking)
        no_more = dataclasses.replace(asking, enough=True)
        return answered(
            untrusted, lambda one, enough: self._one(one, no_more if enough else asking)
        )

    def _one(self, untrusted: Any, asking: Asking) -> Any:
        """The reply to one request, or a coroutine that ends with it; None to a notification."""
        wrong = envelopes.fault_of(untrusted, any_id=asking.manner.as_engines_expect)
        if wrong is not None:
            return self._failure(None, errors.InvalidRequest(wrong), asking)
        reply = self._dispatch(untrusted, asking)
        return reply if type(reply) is CoroutineType or "id" in untrusted else None

    def _dispatch(self, envelope: dict[str, Any], asking: Asking) -> Any:
        name, ident, caller = envelope["method"], envelope.get("id"), asking.caller
        spec = self._contract.verbs.get(name)
        if spec is None:
            return self._failure(ident, errors.MethodNotFound(name[:128]), asking)
        context = request.Request(
            f"{next(self._numbers):x}",
            caller.name,
            time.monotonic() + spec.deadline_s,
            asking.flow,
        )
        refusal = self._refusal(spec, asking)
        if refusal is not None:
            return self._refused(spec, envelope, asking, refusal, context)
        if spec.lane == "inline":
            return self._calls.run(context, envelope, asking)
        # What ends a freeze is never refused for what else its caller has under way.
        quota = asking.quota if spec.lane != "rescue" else None
        if quota is not None and not quota.take():
            return self._refused(spec, envelope, asking, errors.LaneBusy("connection"), context)
        return self._in_lane(spec, envelope, asking, context, quota)

    async def _in_lane(
        self,
        spec: VerbSpec,
        envelope: dict[str, Any],
        asking: Asking,
        context: request.Request,
        quota: Quota | None,
    ) -> dict[str, Any] | None:
        self.in_flight += 1
        try:
            reply = await self._waited_for(spec, envelope, asking, context)
        finally:
            self.in_flight -= 1
            if quota is not None:
                quota.give_back()
        return reply if "id" in envelope else None

    async def _waited_for(
        self, spec: VerbSpec, envelope: dict[str, Any], asking: Asking, context: request.Request
    ) -> dict[str, Any]:
        ending = Ending()
        try:
            return await self._lanes[spec.lane].run(
                lambda: self._calls.run(context, envelope, asking, ending),
                context.deadline_s,
                self._key(spec, envelope),
            )
        except (errors.LaneBusy, errors.ShuttingDown) as error:
            return self._refused(spec, envelope, asking, error, context)
        except LateError:
            log.warning("late %s", facts(verb=spec.name, request=context.id))
            late = errors.DeadlineExceeded(spec.name, spec.deadline_s)
            return self._refused(spec, envelope, asking, late, context, ending)

    def _refusal(self, spec: VerbSpec, asking: Asking) -> errors.VirtcephError | None:
        """Why a verb is not even begun."""
        caller = asking.caller
        if not caller.may(spec.level):
            return errors.AccessDenied(caller.name, spec.name, spec.level)
        # What ends a freeze is served to the end: its caller must not be left with a frozen guest.
        if spec.lane == "rescue":
            return None
        if self._draining:
            return errors.ShuttingDown()
        return errors.LaneBusy("batch") if asking.enough else None

    def _refused(
        self,
        spec: VerbSpec,
        envelope: dict[str, Any],
        asking: Asking,
        error: errors.VirtcephError,
        context: request.Request,
        ending: Ending | None = None,
    ) -> dict[str, Any]:
        """The reply for a verb that did not run to its end, told to whoever wants to know."""
        waited_s = time.monotonic() - (context.deadline_s - spec.deadline_s)
        if ending is None or ending.mine():
            arguments = self._calls.arguments_of(spec.name, envelope, asking.manner)
            how = context.id, arguments, type(error).__name__, waited_s
            self._told(Asked(asking.caller, spec.name, spec.level, *how))
        return self._failure(envelope.get("id"), error, asking, context.id)

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

    def error_data(self, error: errors.VirtcephError) -> Any:
        """The facts of an error as they travel in its `data`."""
        return self._calls.error_data(error)

    def _failure(
        self,
        ident: Any,
        error: errors.VirtcephError,
        asking: Asking,
        request_id: str | None = None,
    ) -> dict[str, Any]:
        data = self._calls.error_data(error, request_id) if asking.manner.with_data else None
        return envelopes.failure(ident, error.code, error.message, data)
