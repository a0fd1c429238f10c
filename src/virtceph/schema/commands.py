"""The commands of `virtceph` that are no verbs, for completion: what comes after each, and its options."""

from __future__ import annotations

from dataclasses import dataclass, field

_SOCKET = {"--socket": True, "--json": False}
_SHORT = {**_SOCKET, "--timeout": True}


@dataclass(frozen=True)
class Command:
    """One command. `about` is a few words; `words` come after it, or what `asks` says: `vm` (names of VMs),
    `set` (VM@SET) or `job` (ids of jobs). `options` says of each whether it takes a value."""

    about: str
    words: tuple[str, ...] = ()
    asks: str = ""
    options: dict[str, bool] = field(default_factory=dict)


COMMANDS = {
    "status": Command("how things stand", asks="vm", options=_SHORT),
    "snapshot": Command(
        "take a consistent snapshot",
        asks="vm",
        options={
            **_SHORT,
            **dict.fromkeys(("--all", "--allow-crash", "--skip-off"), False),
            **dict.fromkeys(("--label", "--name", "--freeze", "--keep", "--keep-daily"), True),
            **dict.fromkeys(("--keep-weekly", "--keep-monthly", "--at-once"), True),
            **dict.fromkeys(("--slot-dir", "--slot-wait"), True),
        },
    ),
    "snapshots": Command("the sets of snapshots of a VM", asks="vm", options=_SHORT),
    "restore": Command(
        "bring a VM that is off back to a set",
        asks="set",
        options={
            **_SHORT,
            **dict.fromkeys(("--yes", "--dry-run", "--no-safety", "--without-memory"), False),
            "--clones": True,
        },
    ),
    "jobs": Command(
        "what the daemon does and did",
        asks="job",
        options={**_SHORT, "--watch": False, "--all": False},
    ),
    "doctor": Command(
        "what is well and what is not on this host",
        options={
            **_SOCKET,
            **dict.fromkeys(("--suggest", "--quiet"), False),
            **dict.fromkeys(("--connect", "--ceph-conf", "--libvirt-dir"), True),
        },
    ),
    "adopt-secret": Command(
        "make a persistent secret an ephemeral one",
        options={
            "--socket": True,
            **dict.fromkeys(("--forget", "--yes"), False),
            **dict.fromkeys(("--key-file", "--credential", "--user", "--monitors"), True),
            **dict.fromkeys(("--usage-id", "--connect", "--libvirt-dir"), True),
        },
    ),
    "events": Command(
        "what the daemon tells, as it happens",
        options={**_SOCKET, "--since": True, "--types": True, "--no-follow": False},
    ),
    "pki": Command(
        "certificates for hosts and callers", ("init", "host", "client", "renew", "show")
    ),
    "completion": Command("a completion script for a shell", ("bash", "zsh", "fish")),
}

# Whose values are files.
FILES = ("--socket", "-f", "--key-file", "--credential", "--ceph-conf", "--libvirt-dir")


def valued() -> list[str]:
    """Every option of a command that takes a value, and --timeout and -f, which all verbs take."""
    found = {"--socket": None, "--timeout": None, "-f": None}
    for command in COMMANDS.values():
        found.update(dict.fromkeys(name for name, takes in command.options.items() if takes))
    return list(found)
