"""A daemon that dies, or halts, at a named step: run in place of `-m virtceph.daemon`.

    python -m tests.lab.doomed die STEP --config FILE
    python -m tests.lab.doomed halt STEP --config FILE    goes on once the file `go` lies beside FILE

The product knows nothing of this. The functions that a step names are wrapped from outside, so that the
process kills itself before or after one of their calls, as a crash just there would.
"""

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Long enough that the call has begun, shorter than a guest takes to freeze or thaw.
DURING_S = 0.02
_HALTED_AT_MOST_S = 120.0


@dataclass(frozen=True)
class Step:
    """A moment of a freeze: `before`, `during` or `after` the `call`th call of `function` (module:qualified
    name). `phase` is what brings the daemon there; `frozen`, whether the guest is frozen then (None: it is
    open)."""

    name: str
    phase: str
    moment: str
    function: str
    frozen: bool | None
    call: int = 1

    def find(self) -> tuple[Any, str]:
        """Where the function hangs, and its name there. Imports its module.

        Raises:
            AttributeError, ModuleNotFoundError: there is no such function.
        """
        module, _, path = self.function.partition(":")
        *owners, name = path.split(".")
        owner: Any = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        getattr(owner, name)
        return owner, name


_RECORDS = "virtceph.host.records:"
_WINDOWS = "virtceph.host.leasebook:Windows."
_LEASES = "virtceph.host.leases:Leases."
_AGENT = "virtceph.virt.agent:Agent."
_DOMAIN = "libvirt:virDomain."

# Every step from the request for a freeze to the end of its window. A daemon that starts calls none of
# these functions, when it does not look for frozen guests.
STEPS = (
    Step("freeze asked for", "freeze", "before", _WINDOWS + "open", False),
    Step("record not begun", "freeze", "before", _RECORDS + "LeaseRecords.put", False),
    Step("record half written", "freeze", "before", "os:fsync", False),
    Step("record not yet safe", "freeze", "before", "virtceph.files:_sync", False),
    Step("recorded", "freeze", "after", _RECORDS + "LeaseRecords.put", False),
    Step("old mark not forgotten", "freeze", "before", _RECORDS + "ExpiredLeases.forget", False),
    Step("window open", "freeze", "after", _WINDOWS + "open", False),
    Step("file systems not asked for", "freeze", "before", _AGENT + "file_systems", False),
    Step("file systems told", "freeze", "after", _AGENT + "file_systems", False),
    Step("freeze not sent", "freeze", "before", _AGENT + "freeze", False),
    Step("freeze under way", "freeze", "during", _DOMAIN + "fsFreeze", None),
    Step("frozen", "freeze", "after", _AGENT + "freeze", True),
    Step("not confirmed", "freeze", "before", _WINDOWS + "frozen", True),
    Step("confirmation not recorded", "freeze", "before", _RECORDS + "LeaseRecords.put", True, 2),
    Step("confirmation recorded", "freeze", "after", _RECORDS + "LeaseRecords.put", True, 2),
    Step("confirmed", "freeze", "after", _WINDOWS + "frozen", True),
    Step("freeze not answered", "freeze", "after", _LEASES + "freeze", True),
    Step("engine at work", "pause", "before", _LEASES + "status", True),
    Step("status not answered", "pause", "after", _LEASES + "status", True),
    Step("longer lease asked for", "extend", "before", _WINDOWS + "extend", True),
    Step("longer lease not recorded", "extend", "before", _RECORDS + "LeaseRecords.put", True, 3),
    Step("longer lease recorded", "extend", "after", _RECORDS + "LeaseRecords.put", True, 3),
    Step("longer lease not answered", "extend", "after", _LEASES + "extend", True),
    Step("thaw asked for", "thaw", "before", _LEASES + "thaw", True),
    Step("thaw not claimed", "thaw", "before", _WINDOWS + "claim", True),
    Step("thaw claimed", "thaw", "after", _WINDOWS + "claim", True),
    Step("thaw not sent", "thaw", "before", _AGENT + "thaw", True),
    Step("thaw under way", "thaw", "during", _DOMAIN + "fsThaw", None),
    Step("thawed", "thaw", "after", _AGENT + "thaw", False),
    Step("mark not forgotten", "thaw", "before", _RECORDS + "ExpiredLeases.forget", False, 2),
    Step("window not ended", "thaw", "before", _WINDOWS + "end", False),
    Step("record not removed", "thaw", "before", _RECORDS + "LeaseRecords.remove", False),
    Step("record removed", "thaw", "after", _RECORDS + "LeaseRecords.remove", False),
    Step("window ended", "thaw", "after", _WINDOWS + "end", False),
    Step("thaw not answered", "thaw", "after", _LEASES + "thaw", False),
    Step("expiry not noted", "expiry", "before", _RECORDS + "ExpiredLeases.add", True),
    Step("expiry noted", "expiry", "after", _RECORDS + "ExpiredLeases.add", True),
    Step("expired, taken", "expiry", "after", _WINDOWS + "take_due", True),
    Step("expired, not thawed", "expiry", "before", _AGENT + "thaw", True),
    Step("expired, thaw under way", "expiry", "during", _DOMAIN + "fsThaw", None),
    Step("expired, thawed", "expiry", "after", _AGENT + "thaw", False),
    Step("expired, guest not asked", "expiry", "before", _AGENT + "is_frozen", False),
    Step("expired, guest asked", "expiry", "after", _AGENT + "is_frozen", False),
    Step("expired, not ended", "expiry", "before", _WINDOWS + "end", False),
    Step("expired, ended", "expiry", "after", _WINDOWS + "end", False),
)
_SET = "virtceph.host.rbdsnapshots:RbdSnapshots."
_INTENTS = "virtceph.host.intents:Intents."
# Every step of VM.createConsistentSnapshot around its freeze, whose own steps are above.
SET_STEPS = (
    Step("set not prepared", "set", "before", _SET + "prepare", False),
    Step("intent not written", "set", "before", _INTENTS + "put", False),
    Step("intent written", "set", "after", _INTENTS + "put", False),
    Step("set prepared", "set", "after", _SET + "prepare", False),
    Step("set frozen", "set", "after", _LEASES + "freeze", True),
    Step("snapshots not asked for", "set", "before", _SET + "make", True),
    Step("snapshots under way", "set", "during", _SET + "make", True),
    Step("snapshots made", "set", "after", _SET + "make", True),
    Step("set not thawed", "set", "before", _LEASES + "thaw", True),
    Step("set thawed", "set", "after", _LEASES + "thaw", False),
    Step("set not noted", "set", "before", _SET + "note", False),
    Step("note under way", "set", "during", _SET + "note", False),
    Step("set noted", "set", "after", _SET + "note", False),
    Step("set not settled", "set", "before", _SET + "settle", False),
    Step("set settled", "set", "after", _SET + "settle", False),
)
_JOB_RECORDS = "virtceph.host.jobrecords:JobRecords."
_COPIES, _DIFFS = "virtceph.host.copies:", "virtceph.host.diffjobs:"
_MOVERS, _UNDO = "virtceph.ceph.movers:Movers.run", "virtceph.host.jobleftovers:JobLeftovers.undo"
# Every step of the jobs that move data, around what they change. No guest has to do with them.
DATA_STEPS = (
    Step("copy not recorded", "copy", "before", _JOB_RECORDS + "put", None),
    Step("copy recorded", "copy", "after", _JOB_RECORDS + "put", None),
    Step("copy under way", "copy", "during", _MOVERS, None),
    Step("copy made", "copy", "after", _MOVERS, None),
    Step("copy not named", "copy", "before", _COPIES + "name_part", None),
    Step("copy named", "copy", "after", _COPIES + "name_part", None),
    Step("copy not settled", "copy", "before", _UNDO, None),
    Step("copy settled", "copy", "after", _UNDO, None),
    Step("move under way", "move", "during", _MOVERS, None),
    Step("trash not recorded", "move", "before", _JOB_RECORDS + "put", None, 2),
    Step("trash recorded", "move", "after", _JOB_RECORDS + "put", None, 2),
    Step("in the trash", "move", "after", _COPIES + "in_worker", None),
    Step("move not named", "move", "before", _COPIES + "name_part", None),
    Step("move named", "move", "after", _COPIES + "name_part", None),
    Step("old volume not purged", "move", "before", _UNDO, None),
    Step("old volume purged", "move", "after", _UNDO, None),
    Step("volume not hidden", "diff", "before", _DIFFS + "in_worker", None),
    Step("volume hidden", "diff", "after", _DIFFS + "in_worker", None),
    Step("base checked", "diff", "after", _MOVERS, None),
    Step("rollback recorded", "diff", "after", _JOB_RECORDS + "put", None, 2),
    Step("diff not begun", "diff", "before", _MOVERS, None, 2),
    Step("diff under way", "diff", "during", _MOVERS, None, 2),
    Step("diff applied", "diff", "after", _MOVERS, None, 2),
    Step("volume not named", "diff", "before", _DIFFS + "in_worker", None, 2),
    Step("volume named", "diff", "after", _DIFFS + "in_worker", None, 2),
    Step("diff not settled", "diff", "before", _UNDO, None),
    Step("export under way", "export", "during", _MOVERS, None),
    Step("export made", "export", "after", _MOVERS, None),
    Step("export not named", "export", "before", "virtceph.host.exchangefiles:NewFile.keep", None),
    Step("export named", "export", "after", "virtceph.host.exchangefiles:NewFile.keep", None),
)
# For halting only: where something else is to happen just then.
HALTS = (
    *STEPS,
    *SET_STEPS,
    *DATA_STEPS,
    Step("paused", "memory", "after", "virtceph.virt.domains:Domains.suspend", True),
    Step("strangers looked at", "start", "after", _AGENT + "looks_frozen", None),
)


def step_named(name: str) -> Step:
    """The step of that name. Raises StopIteration."""
    return next(step for step in HALTS if step.name == name)


def reached_line(step: Step) -> str:
    """What the daemon's log says when it is there."""
    return f"reached: {step.name}"


def wrap(step: Step, act: Callable[[], None]) -> None:
    """Have `act` called at the step, in the thread that reaches it (`during`: in one of its own)."""
    owner, name = step.find()
    function = getattr(owner, name)
    lock, calls = threading.Lock(), 0

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            is_it = calls == step.call
        if is_it and step.moment == "before":
            act()
        if is_it and step.moment == "during":
            threading.Timer(DURING_S, act).start()
        result = function(*args, **kwargs)
        if is_it and step.moment == "after":
            act()
        return result

    setattr(owner, name, wrapped)


def _die(step: Step) -> None:
    os.write(2, f"{reached_line(step)}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def _halt(step: Step, go: Path) -> None:
    os.write(2, f"{reached_line(step)}\n".encode())
    deadline_s = time.monotonic() + _HALTED_AT_MOST_S
    while not go.exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)


def main() -> None:
    """Run the daemon with the rest of the command line."""
    _, action, name, *arguments = sys.argv
    sys.argv[1:] = arguments
    step = step_named(name)
    go = Path(arguments[arguments.index("--config") + 1]).with_name("go")
    actions = {"die": lambda: _die(step), "halt": lambda: _halt(step, go)}
    # It imports the whole daemon, whose modules are to be there before a step is looked for.
    from virtceph import daemon

    wrap(step, actions[action])
    daemon.run()


if __name__ == "__main__":
    main()
