"""What can go wrong in the lab: each class names one thing its reader can act on."""

from pathlib import Path


class LabError(Exception):
    """The lab could not do its part. Never a verdict on the product."""


class MissingPrerequisite(LabError):
    """Root, a Debian package or a tool is absent."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"the lab needs {missing}")
        self.missing = missing


class NotReady(LabError):
    """A process of ours did not become ready in time, or ended before it was."""

    def __init__(self, what: str, timeout_s: float, log_tail: str = "") -> None:
        super().__init__(f"{what} not ready within {timeout_s:g} s\n{log_tail}".rstrip())
        self.what = what


class CommandFailed(LabError):
    """A program that the lab ran ended with an error."""

    def __init__(self, argv: list[str], status: int, output: str) -> None:
        super().__init__(f"{' '.join(argv)}: status {status}\n{output[-2000:]}".rstrip())
        self.status = status


class GuestCommandFailed(LabError):
    """The guest answered a command of the control channel with an error."""

    def __init__(self, command: str, status: int, text: str) -> None:
        super().__init__(f"guest command {command!r}: status {status} {text}".rstrip())
        self.status = status


class StillRunning(LabError):
    """A process survived SIGKILL: it is stuck in the kernel."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(f"{name} (pid {pid}) does not end")
        self.pid = pid


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a log, or an empty string if there is none. Does not block."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
