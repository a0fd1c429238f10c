"""`docs/events.md`, from the contract."""

from __future__ import annotations

from collections.abc import Iterator

from virtceph.schema.markdown import (
    GENERATED,
    about_cell,
    anchor,
    presence_cell,
    table,
    type_cell,
)
from virtceph.schema.spec import Contract, EventSpec

_TYPES_ON = "verbs.md"

_INTRO = """\
# Events

What `virtcephd` tells without being asked. Who may hear which is said with each, by the levels of
[the verbs](verbs.md).

```sh
virtceph events                                   # as they happen; --since, --types and --json
curl --unix-socket /run/virtceph/virtcephd.sock -N http://localhost/events?types=vm_frozen,vm_thawed
```

**Over HTTP** (`GET /events`, see [HTTP](http.md)) each is a server-sent event with a JSON object: `event`
(its name), `cursor`, `time` (seconds since 1970) and `params`, which are described here.

**Over STOMP** each goes to whoever is subscribed to `jms.queue.events`, as a JSON-RPC notification whose
method is `|virtceph|<name>|<subject>`: the subject is the parameter that says what the event is about, or
`no_id`. Events that engines have always known are sent in their words too, where that is said below.
`notify_time` is added to the parameters.

**Cursors.** `<run>-<number>`: the run of the daemon, and a number that grows by one with each event. The
daemon keeps the latest (`events.kept`); whoever comes back with a cursor hears everything since, and
[events_lost](#events_lost) first where something is missing. Nothing is kept over a restart of the daemon.
"""


def events_page(contract: Contract) -> str:
    """The text of `docs/events.md`."""
    events = contract.events.values()
    index = [(f"[{e.name}]({anchor(e.name)})", e.summary, e.level) for e in events]
    parts = [GENERATED + _INTRO, table(("event", "", "level"), index)]
    parts += ["\n".join(_event(contract, event)) for event in events]
    return "\n".join(parts)


def _event(contract: Contract, event: EventSpec) -> Iterator[str]:
    yield f"## {event.name}\n"
    yield f"{event.summary} {event.description}".strip() + "\n"
    if event.params:
        rows = [
            (
                f"`{p.name}`",
                type_cell(contract, p, _TYPES_ON),
                presence_cell(p),
                about_cell(p, event.since),
            )
            for p in event.params
        ]
        yield table(("parameter", "type", "", ""), rows)
    yield f"*{event.level}* · STOMP {_methods(event)} · since {event.since}\n"


def _methods(event: EventSpec) -> str:
    ident = f"<{event.subject}>" if event.subject else "no_id"
    ours = f"`|virtceph|{event.name}|{ident}`"
    form = event.engines
    if form is None:
        return ours
    theirs = f"`|{form.component}|{form.operation}|{ident}`"
    if form.when is not None:
        theirs += f" (when `{form.when[0]}` is {', '.join(form.when[1])})"
    if form.as_map:
        theirs += f" with `{{<{event.subject}>: {{…}}}}`"
    return f"{ours}, and {theirs}"
