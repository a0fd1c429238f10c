"""`docs/verbs.md` and `docs/errors.md`, from the contract."""

from __future__ import annotations

from collections.abc import Iterator

from virtceph.schema.examples import example_command
from virtceph.schema.markdown import (
    GENERATED,
    about_cell,
    anchor,
    default_cell,
    error_link,
    presence_cell,
    table,
    type_cell,
    verb_link,
)
from virtceph.schema.spec import Contract, ErrorSpec, FieldSpec, VerbSpec, leaf_type
from virtceph.schema.words import namespaces, unit_words

_VERBS_INTRO = """\
# Verbs

What `virtcephd` can do, verb by verb. What can go wrong is on [the errors page](errors.md); the
types are [at the end](#types).

Call a verb with the CLI (`virtceph VM getInfo vmID=web`, help with `-h` at every level), with
`virtceph.client` from Python, or with any JSON-RPC 2.0 client:

```sh
curl --unix-socket /run/virtceph/virtcephd.sock http://localhost/jsonrpc \\
    -H 'Content-Type: application/json' \\
    -d '{"jsonrpc": "2.0", "id": 1, "method": "Host.ping2", "params": {}}'
```

Each verb says who may call it (*monitor* looks, *operator* acts on VMs and volumes, *admin* deals
with keys and storage domains; each may do what the ones before it may), the lane it waits in, and
the deadline by which it answers. The CLI, and `client.VM.freeze` and `client.frozen` from Python,
freeze for 30 seconds unless told otherwise.
"""

_KINDS = {
    "caller": ("the request is wrong", "no: fix the request first"),
    "state": ("the VM, volume or host is not in the needed state", "after that state is reached"),
    "unavailable": ("libvirt, Ceph or the guest agent did not answer", "yes, later"),
    "failed": ("it was tried and did not work", "once the reason is dealt with"),
    "internal": ("a bug of ours", "no: report it"),
}

_ERRORS_INTRO = """\
# Errors

An error has a `code`, a `message` for people, and over HTTP a `data` object with the error's name
(`error`), its `kind`, `retry`, the `requestID` to find in the daemon's log, and the facts listed
here. Codes below 5000 are those of Vdsm. Where a code has several errors, the name tells them
apart.

The kind says what to do:
"""


def verbs_page(contract: Contract) -> str:
    """The text of `docs/verbs.md`."""
    spaces = namespaces(contract)
    index = [
        (f"[{v.name}]({anchor(v.name)})", v.summary, v.level)
        for verbs in spaces.values()
        for v in verbs
    ]
    parts = [GENERATED + _VERBS_INTRO, table(("verb", "", "level"), index)]
    for name, verbs in spaces.items():
        parts.append(f"## {name}\n")
        parts += ["\n".join(_verb(contract, verb)) for verb in verbs]
    parts.append("\n".join(_types(contract)))
    return "\n".join(parts)


def errors_page(contract: Contract) -> str:
    """The text of `docs/errors.md`."""
    kinds = [(f"**{kind}**", what, retry) for kind, (what, retry) in _KINDS.items()]
    index = [
        (str(e.code), f"[{e.name}]({anchor(e.name)})", e.kind, e.title)
        for e in contract.errors.values()
    ]
    parts = [
        GENERATED + _ERRORS_INTRO,
        table(("kind", "what happened", "ask again?"), kinds),
        table(("code", "error", "kind", "title"), index),
        *("\n".join(_error(contract, error)) for error in contract.errors.values()),
    ]
    return "\n".join(parts)


def _verb(contract: Contract, verb: VerbSpec) -> Iterator[str]:
    yield f"### {verb.name}\n"
    yield f"{verb.summary} {verb.description}".strip() + "\n"
    if verb.params:
        rows = [
            (f"`{p.name}`", type_cell(contract, p), default_cell(p), about_cell(p, verb.since))
            for p in verb.params
        ]
        yield table(("parameter", "type", "default", ""), rows)
    yield f"**Answers** {_answer(contract, verb.result)}\n"
    errors = ", ".join(error_link(name) for name in contract.errors_of(verb))
    if errors:
        yield f"**Errors** {errors}\n"
    if verb.job_errors:
        yield f"**Errors of its job** {', '.join(map(error_link, verb.job_errors))}\n"
    yield (
        f"*{verb.level}* · lane `{verb.lane}` · answers within {verb.deadline_s:g} s · "
        f"since {verb.since}\n"
    )
    yield f"```sh\n{example_command(contract, verb)}\n```\n"


def _answer(contract: Contract, spec: FieldSpec) -> str:
    leaf = leaf_type(spec.type)
    if leaf not in contract.objects:
        return type_cell(contract, spec) if contract.defines(leaf) else f"`{unit_words(spec)}`"
    names = ", ".join(
        f"`{f.name}`" + (" (optional)" if f.optional else "") for f in contract.objects[leaf].fields
    )
    return f"{type_cell(contract, spec)}: {names}"


def _types(contract: Contract) -> Iterator[str]:
    yield "## Types\n"
    used = _used_types(contract)
    for scalar in contract.scalars.values():
        if scalar.name in used:
            rule = f" Expected: {scalar.expected}." if scalar.expected else ""
            rule += f" Pattern: `{scalar.pattern}`." if scalar.pattern else ""
            yield f"### {scalar.name}\n\n{scalar.description}{rule} *Since {scalar.since}.*\n"
    for enum in contract.enums.values():
        if enum.name in used:
            values = ", ".join(f"`{value}`" for value in enum.values)
            yield f"### {enum.name}\n\n{values}. {enum.description} *Since {enum.since}.*\n"
    for thing in contract.objects.values():
        about = f"{thing.description.strip()} *Since {thing.since}.*"
        yield f"### {thing.name}\n\n{about}\n"
        rows = [
            (f"`{f.name}`", type_cell(contract, f), presence_cell(f), about_cell(f, thing.since))
            for f in thing.fields
        ]
        yield table(("field", "type", "", ""), rows)


def _used_types(contract: Contract) -> set[str]:
    fields = [f for v in contract.verbs.values() for f in (*v.params, v.result)]
    fields += [f for thing in contract.objects.values() for f in thing.fields]
    fields += [f for error in contract.errors.values() for f in error.facts]
    fields += [f for event in contract.events.values() for f in event.params]
    return {leaf_type(f.type) for f in fields}


def _error(contract: Contract, error: ErrorSpec) -> Iterator[str]:
    yield f"### {error.name}\n"
    yield f"`{error.code}` · {error.kind} · *{error.title}* · since {error.since}\n"
    yield f"{error.description}\n"
    yield f"**What to do:** {error.remedy}\n"
    if error.facts:
        facts = ", ".join(f"`{f.name}` ({_fact(error, f)})" for f in error.facts)
        yield f"**Facts:** {facts}\n"
    yield f"**Answered by** {_answered_by(contract, error)}\n"


def _fact(error: ErrorSpec, fact: FieldSpec) -> str:
    return unit_words(fact) + ("" if fact.since == error.since else f", since {fact.since}")


def _answered_by(contract: Contract, error: ErrorSpec) -> str:
    if error.lanes == ():
        return "the daemon itself, to any request."
    if error.lanes and "*" in error.lanes:
        return "any verb that takes parameters."
    lanes = [f"`{lane}`" for lane in error.lanes or ()]
    of_lanes = [f"every verb of the {'lanes' if len(lanes) > 1 else 'lane'} {', '.join(lanes)}"]
    verbs = [verb_link(v.name) for v in contract.verbs.values() if error.name in v.errors]
    jobs = [
        f"the job of {verb_link(v.name)}"
        for v in contract.verbs.values()
        if error.name in v.job_errors
    ]
    return ", ".join([*(of_lanes if lanes else ()), *verbs, *jobs]) + "."
