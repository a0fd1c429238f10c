"""The help texts of every level, from the contract."""

from __future__ import annotations

import textwrap

from virtceph.cli.arguments import USAGE
from virtceph.schema.examples import example_command
from virtceph.schema.spec import Contract, FieldSpec, VerbSpec
from virtceph.schema.words import (
    bounds_words,
    default_words,
    namespaces,
    scalar_words,
    type_words,
    unit_words,
    value_words,
)

_WIDTH = 96

_INTRO = """\
Calls the verbs of virtcephd on this host and prints what they answer as JSON.

options:
  -h, --help         this help; after a namespace or a verb, theirs
  --version          the version
  --socket PATH      the daemon's socket (else $VIRTCEPH_SOCKET, else /run/virtceph/virtcephd.sock)
  --timeout S        how long to wait for the answer (180)
  --human            tables and units for people, instead of JSON
  --wait             of a verb that starts a job, wait for its end (within the time-out) and print its result
  -f, --file FILE    read the parameters as a JSON object from FILE, `-` for stdin;
                     secrets are only taken this way
"""

_OUTRO = """\
short forms, for what is done every day (virtceph WORD -h tells more):
  virtceph status [VM …]             how the host, or a VM, stands
  virtceph snapshot VM …             a consistent snapshot; --keep-daily 7 removes older ones
  virtceph snapshots VM              the sets of snapshots of a VM
  virtceph restore VM@SET            a VM that is off goes back to a set
  virtceph jobs [--watch]            what the daemon does

  virtceph doctor                    what is well and what is not on this host; needs no daemon
  virtceph adopt-secret UUID         a secret that libvirt keeps on disk becomes an ephemeral one
  virtceph events                    what the daemon tells, as it happens
  virtceph pki                       certificates for hosts and callers, without a daemon
  virtceph completion bash|zsh|fish  a completion script for the shell

exit code: 0 done, 1 the verb or the connection failed, 2 the command line is wrong
"""

_COMPLETION = """\
Prints a script that completes namespaces, methods and parameters. To load it:
  bash  . <(virtceph completion bash)        in ~/.bashrc
  zsh   virtceph completion zsh > _virtceph  in a folder of $fpath
  fish  virtceph completion fish > ~/.config/fish/completions/virtceph.fish
"""

_FREEZE_LEASE = """\
This command passes timeout=30 unless told otherwise: a guest should not stand still for minutes
because a terminal was closed.
"""


def top(contract: Contract) -> str:
    """What `virtceph -h` prints."""
    rows = [(name, _count(verbs)) for name, verbs in namespaces(contract).items()]
    return f"usage: {USAGE}\n\n{_INTRO}\nnamespaces:\n{_columns(rows)}\n\n{_OUTRO}"


def namespace(contract: Contract, name: str) -> str:
    """What `virtceph VM -h` prints."""
    rows = [(v.name.partition(".")[2], v.summary) for v in namespaces(contract)[name]]
    return f"usage: virtceph {name} method [arg=value ...]\n\nmethods:\n{_columns(rows)}\n"


def verb(contract: Contract, spec: VerbSpec) -> str:
    """What `virtceph VM freeze -h` prints."""
    parts = [
        verb_usage(spec),
        _fill(f"{spec.summary} {spec.description}"),
        _section("parameters", [(p.name, _about(contract, p)) for p in spec.params]),
        _result(contract, spec.result),
        _section("errors", [_error(contract, name) for name in contract.errors_of(spec)]),
        _section("as the job's error", [_error(contract, name) for name in spec.job_errors]),
        "example:\n" + textwrap.indent(example_command(contract, spec), "  "),
    ]
    if spec.name == "VM.freeze":
        parts.insert(2, _fill(_FREEZE_LEASE))
    return "\n\n".join(part for part in parts if part) + "\n"


def verb_usage(spec: VerbSpec) -> str:
    """The usage line of a verb: what it must be given, then what it may be given."""
    words = "".join(
        f" {p.name}=…" if p.required else f" [{p.name}=…]"
        for p in sorted(spec.params, key=lambda p: not p.required)
    )
    return _fill(f"usage: virtceph {spec.name.replace('.', ' ')}{words}", "                ")


def completion() -> str:
    """What `virtceph completion -h` prints."""
    return f"{completion_usage()}\n\n{_COMPLETION}"


def completion_usage() -> str:
    """The usage line of `completion`."""
    from virtceph.schema.completion import SHELLS

    return f"usage: virtceph completion {'|'.join(SHELLS)}"


def _count(verbs: list[VerbSpec]) -> str:
    return ", ".join(v.name.partition(".")[2] for v in verbs)


def _about(contract: Contract, spec: FieldSpec) -> str:
    known = ", ".join(value_words(contract, spec.type)) if spec.type != "boolean" else ""
    known = known or scalar_words(contract, spec.type)
    extra = "; ".join(part for part in (known, bounds_words(spec)) if part)
    default = default_words(spec)
    default = default if default in ("required", "optional") else f"default {default}"
    head = f"({unit_words(spec)}{'; ' + extra if extra else ''}; {default})"
    text = spec.description
    if spec.name == "vmID":
        text += " Its UUID, or its name."
    if contract.carries_secret(spec.type):
        text += " Only by -f."
    return f"{text} {head}"


def _result(contract: Contract, spec: FieldSpec) -> str:
    leaf = spec.type.strip("[]{}")
    if leaf not in contract.objects:
        return f"result: {unit_words(spec)}"
    rows = [(f.name, f"{f.description} ({_kind(f)})") for f in contract.objects[leaf].fields]
    return f"result: {type_words(spec.type)}\n{_columns(rows)}"


def _kind(spec: FieldSpec) -> str:
    return unit_words(spec) + ("; optional" if spec.optional else "")


def _error(contract: Contract, name: str) -> tuple[str, str]:
    spec = contract.errors[name]
    return f"{spec.code} {name}", spec.description or spec.title


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    return f"{title}:\n{_columns(rows)}" if rows else ""


def _columns(rows: list[tuple[str, str]]) -> str:
    width = min(max((len(left) for left, _ in rows), default=0), 28)
    lines = []
    for left, right in rows:
        lines.append(_fill(f"  {left:<{width}}  {right}", " " * (width + 4)))
    return "\n".join(lines)


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(text.rstrip(), _WIDTH, subsequent_indent=indent, break_on_hyphens=False)
