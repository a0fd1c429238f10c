"""Shell completion scripts, generated from the contract.

Words that the contract knows stand in the scripts; VMs and storage domains are asked of the daemon
by calling `virtceph` itself. The shell never expands what it answers: a VM may have any name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from virtceph.schema import shells
from virtceph.schema.commands import COMMANDS, FILES, valued
from virtceph.schema.spec import Contract, VerbSpec, leaf_type
from virtceph.schema.words import namespaces, value_words

OPTIONS = {
    "-h": "show help",
    "--version": "show the version",
    "--socket": "the socket of the daemon",
    "--timeout": "seconds to wait",
    "--human": "tables instead of JSON",
    "--wait": "wait for the job's end",
    "-f": "read the parameters from a file",
}
SHELLS = COMMANDS["completion"].words

# Parameters completed by asking: which call, and which field of its answer.
ASKED = {
    "vmID": ("Host getVMList", "name"),
    "storageDomainID": ("StorageDomain list", "storageDomainID"),
}


def completion_script(contract: Contract, shell: str) -> str:
    """The script for `bash`, `zsh` or `fish`."""
    makers: dict[str, Callable[[Contract], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return makers[shell](contract)


def _words(contract: Contract, verb: VerbSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    for spec in verb.params:
        if values := value_words(contract, leaf_type(spec.type)):
            yield f"{verb.name}.{spec.name}", values


def _cases(rows: list[tuple[str, str]], indent: str = "        ") -> str:
    return "\n".join(f"{indent}{pattern}) {action} ;;" for pattern, action in rows)


def _asking(template: str) -> list[tuple[str, str]]:
    return [
        (f"*.{name}", template.format(call=call, field=field))
        for name, (call, field) in ASKED.items()
    ]


def _lookups(contract: Contract, ask: str) -> dict[str, str]:
    """The case branches that bash and zsh share: verbs of a namespace, parameters and values."""
    verbs = [
        (name, "printf '%s\\n' " + " ".join(v.name.partition(".")[2] for v in found))
        for name, found in namespaces(contract).items()
    ]
    verbs += [
        (name, "printf '%s\\n' " + " ".join(command.words))
        for name, command in COMMANDS.items()
        if command.words
    ]
    params = [
        (v.name, "printf '%s\\n' " + " ".join(f"{p.name}=" for p in v.params))
        for v in contract.verbs.values()
        if v.params
    ]
    values = [
        (key, "printf '%s\\n' " + " ".join(f"'{word}'" for word in words))
        for verb in contract.verbs.values()
        for key, words in _words(contract, verb)
    ]
    return {
        "namespaces": " ".join([*namespaces(contract), *COMMANDS]),
        "options": " ".join(OPTIONS),
        "command_options": _cases(
            [
                (name, "printf '%s\\n' " + " ".join(["-h", *command.options]))
                for name, command in COMMANDS.items()
                if command.options
            ]
        ),
        "asked": "|".join(name for name, command in COMMANDS.items() if command.asks),
        "asking": _cases(
            [(name, f'_virtceph_{c.asks}s "$1" "$vm"') for name, c in COMMANDS.items() if c.asks]
        ),
        "vms": _ASK.format(call="Host getVMList", field="name"),
        "jobs": _ASK.format(call="Host getJobs", field="id"),
        "sets": _ASK.format(call='snapshots "$2" --json', field="snapshotName"),
        "valued": "|".join(valued()),
        "files": "|".join(FILES),
        "verbs": _cases(verbs),
        "params": _cases(params),
        "values": _cases(_asking(ask) + values),
    }


# A name that JSON has to escape is left out: nobody could type it either.
_ASK = """_virtceph_ask {call} | sed -n 's/^ *"{field}": "\\([^"\\\\]*\\)",\\{{0,1\\}}$/\\1/p'"""


def _bash(contract: Contract) -> str:
    return shells.BASH.substitute(_lookups(contract, _ASK))


def _zsh(contract: Contract) -> str:
    return shells.ZSH.substitute(_lookups(contract, _ASK))


def _fish(contract: Contract) -> str:
    lines = []
    for name, verbs in namespaces(contract).items():
        lines.append(f"complete -c virtceph -n '__virtceph_after' -a {name}")
        for verb in verbs:
            word = verb.name.partition(".")[2]
            about = json.dumps(verb.summary, ensure_ascii=False).replace("$", "\\$")
            lines.append(f"complete -c virtceph -n '__virtceph_after {name}' -a {word} -d {about}")
            lines += _fish_params(contract, verb, f"__virtceph_after {name} {word}")
    for name in COMMANDS:
        lines += _fish_command(name)
    return shells.FISH.substitute(rules="\n".join(lines), valued=" ".join(valued()))


def _fish_command(name: str) -> Iterator[str]:
    command = COMMANDS[name]
    about = json.dumps(command.about)
    yield f"complete -c virtceph -n '__virtceph_after' -a {name} -d {about}"
    if command.words:
        words = " ".join(command.words)
        yield f"complete -c virtceph -n '__virtceph_after {name}' -a '{words}'"
    if command.asks:
        yield f"complete -c virtceph -n '__virtceph_in {name}' -a '(__virtceph_{command.asks}s)'"
    for option, takes in command.options.items():
        if option != "--socket":
            kind = ("-rF" if option in FILES else "-x") if takes else ""
            line = f"complete -c virtceph -n '__virtceph_in {name}' -l {option[2:]} {kind}"
            yield line.rstrip()


def _fish_params(contract: Contract, verb: VerbSpec, condition: str) -> Iterator[str]:
    for spec in verb.params:
        words = value_words(contract, leaf_type(spec.type))
        choices = [f'"{spec.name}={word}"' for word in words] or [f"{spec.name}="]
        if spec.name in ASKED:
            call, field = ASKED[spec.name]
            choices = [f"(__virtceph_ask {spec.name} {field} {call})"]
        yield f"complete -c virtceph -n '{condition}' -a '{' '.join(choices)}'"
