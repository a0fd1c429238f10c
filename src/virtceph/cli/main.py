"""`virtceph`: read the command line, call the verb, print its answer."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from virtceph.cli.arguments import SHORT, Options, UsageError, parse, split_command

# What follows is imported where it is needed, since imports are most of what a start takes.
if TYPE_CHECKING:
    from virtceph.schema.spec import Contract, FieldSpec, VerbSpec

DONE, FAILED = 0, 1
# What a shell reports of a command that died of SIGINT or SIGPIPE.
_INTERRUPTED, _PIPE_CLOSED = 130, 141
# Commands of a module each, which ask no daemon.
_WITHOUT_DAEMON = {"pki": "pki", "doctor": "doctor", "adopt-secret": "adopt"}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong command line. Blocks."""
    if sys.stdout is None:  # closed by the caller: no answer could be told
        return _fail("there is no standard output")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal's encoding lacks is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except UsageError as error:
        _complain(f"{error.usage}\nvirtceph: error: {error}")
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        if str(interrupt):
            _complain(f"virtceph: {interrupt}")
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return _PIPE_CLOSED
    except OSError as error:
        _drop_stdout()
        return _fail(f"writing the answer failed: {error.strerror}")


def _drop_stdout() -> None:
    # Python flushes once more at its exit, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str]) -> int:
    command, rest = split_command(argv)
    if command in _WITHOUT_DAEMON:
        module = importlib.import_module(f"virtceph.cli.{_WITHOUT_DAEMON[command]}")
        return int(module.run(rest))
    options = None if command is not None else parse(argv)
    from virtceph.schema.spec import load_contract

    contract = load_contract()
    if command in SHORT:
        from virtceph.cli import short

        return short.run(contract, command, rest)
    if options is None:
        from virtceph.cli import events

        return events.run(contract, rest)
    if options.words[:1] == ["completion"]:
        return _completion(contract, options)
    if options.help:
        return _help(contract, options)
    verb = _verb(contract, options.words)
    if verb is None:
        raise UsageError("name a namespace and a method; see virtceph -h")
    try:
        params = _params(contract, verb, options)
    except UsageError as error:
        from virtceph.cli.manual import verb_usage

        error.usage = verb_usage(verb)
        raise
    return _call(contract, verb, params, options)


def _help(contract: Contract, options: Options) -> int:
    from virtceph.cli import manual

    if options.file is not None:
        raise UsageError("-h and -f exclude each other")
    if not options.words:
        text = manual.top(contract)
    elif len(options.words) == 1:
        text = manual.namespace(contract, _namespace(contract, options.words[0]))
    else:
        verb = _verb(contract, options.words)
        assert verb is not None
        text = manual.verb(contract, verb)
    print(text, end="")
    return DONE


def _completion(contract: Contract, options: Options) -> int:
    from virtceph.cli import manual
    from virtceph.schema.completion import SHELLS, completion_script

    if options.help:
        print(manual.completion(), end="")
        return DONE
    if len(options.words) != 2 or options.words[1] not in SHELLS:
        wrong = UsageError("name one shell")
        wrong.usage = manual.completion_usage()
        raise wrong
    print(completion_script(contract, options.words[1]), end="")
    return DONE


def _namespace(contract: Contract, name: str) -> str:
    from virtceph.schema.words import namespaces

    known = list(namespaces(contract))
    if name not in known:
        hint = f"{_meant(name, known)}; there are {', '.join(known)}"
        raise UsageError(f"no namespace {name!r}{hint}")
    return name


def _verb(contract: Contract, words: list[str]) -> VerbSpec | None:
    if not words:
        return None
    namespace = _namespace(contract, words[0])
    methods = [v.partition(".")[2] for v in contract.verbs if v.startswith(f"{namespace}.")]
    if len(words) == 1:
        raise UsageError(f"name a method of {namespace}: {', '.join(methods)}")
    if words[1] not in methods:
        raise UsageError(f"{namespace} has no method {words[1]!r}{_meant(words[1], methods)}")
    return contract.verbs[f"{namespace}.{words[1]}"]


def _meant(word: str, known: list[str]) -> str:
    import difflib

    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f", did you mean {by_lower[close[0]]}?" if close else ""


def _params(contract: Contract, verb: VerbSpec, options: Options) -> dict[str, Any]:
    from virtceph.cli.values import params_from_file, params_of

    words = options.words[2:]
    if options.file is None:
        return params_of(contract, verb, words)
    if words:
        raise UsageError("arg=value and -f exclude each other")
    return params_from_file(options.file)


def _call(contract: Contract, verb: VerbSpec, params: dict[str, Any], options: Options) -> int:
    from virtceph.cli.calling import call, call_and_wait, starts_a_job
    from virtceph.cli.values import redacted
    from virtceph.client import ConnectionFailed, NoSuchJob, ServerError, TimedOut, socket_path

    if options.wait and not starts_a_job(verb):
        raise UsageError(f"--wait is for verbs that start a job; {verb.name} does not")
    path = options.socket or socket_path()
    shown = f"{verb.name} with args {redacted(contract, verb, params)}"
    calling = call_and_wait if options.wait else call
    try:
        result = calling(verb, params, path, options.timeout_s)
    except ServerError as error:
        return _fail("\n".join([f"Command {shown} failed:", str(error), *_steps(error.data)]))
    except NoSuchJob as error:
        return _fail(f"Command {shown} was begun and lost: {error}")
    except TimedOut as error:
        return _fail(f"Request {shown} timed out after {error.timeout_s} seconds")
    except ConnectionFailed as error:
        return _fail(f"Connection to {path} failed: {error}")
    _show(contract, _spec(contract, verb, options, result), result, human=options.human)
    return DONE


def _spec(contract: Contract, verb: VerbSpec, options: Options, result: Any) -> FieldSpec:
    """What the result is, by the contract: a verb's own, or that of the job it started, known by its
    fields."""
    if not options.wait:
        return verb.result
    from virtceph.schema.spec import FieldSpec

    names = set(result) if isinstance(result, dict) else set()
    for kind in ("TransferResult", "SnapshotSet", "SnapshotResult", "RestoreResult"):
        fields = contract.objects[kind].fields
        required = {field.name for field in fields if field.required}
        if names and required <= names <= {field.name for field in fields}:
            return FieldSpec("result", kind)
    return FieldSpec("result", "any")


def _steps(data: dict[str, Any]) -> list[str]:
    """What the daemon says is to be done first, each as a line."""
    from virtceph.cli.table import safe

    steps = data.get("steps")
    if not isinstance(steps, list) or not steps:
        return []
    return ["first, in this order:", *(f"  {safe(str(step))}" for step in steps)]


def _show(contract: Contract, spec: FieldSpec, result: Any, *, human: bool) -> None:
    if not human:
        print(json.dumps(result, indent=4, sort_keys=True))
        return
    from virtceph.cli import table
    from virtceph.cli.human import render

    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(render(contract, spec, result, table.bold if colours else table.plain))


def _fail(message: str) -> int:
    _complain(f"virtceph: {message}")
    return FAILED


def _complain(text: str) -> None:
    # With stderr closed, `print` would write to stdout.
    if sys.stderr is not None:
        print(text, file=sys.stderr)
