"""Logs that state facts: `froze vm=… filesystems=2 elapsed_s=0.31`, each line with its request id."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from virtceph import request

# The name of the audit trail where it goes to the log.
AUDIT = "virtceph.audit"
# sd-daemon(3): the priority prefixes journald reads from stderr.
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request = request.current().id
        return True


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITY.get(record.levelno, 6)}>"
        # The journal splits at newlines; each needs its own prefix to keep the priority.
        return priority + super().format(record).replace("\n", f"\n{priority}")


def set_up(level: str, target: str) -> None:
    """Send this process's log to stderr, in the form `target` says (see config.Log)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_RequestId())
    text = "[%(request)s] %(name)s: %(message)s"
    if target == "journal" or (target == "auto" and _stderr_is_journal()):
        handler.setFormatter(_JournalFormatter(text))
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {text}"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Who logs only what goes wrong still wants to know who did it.
    logging.getLogger(AUDIT).setLevel(logging.INFO)
    # Libraries speak up when something is wrong; their debug lines could quote a request body.
    for library in ("aiohttp", "asyncio", "jsonrpcserver"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _stderr_is_journal() -> bool:
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    stat = os.fstat(sys.stderr.fileno())
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


def facts(**values: Any) -> str:
    """`key=value` pairs for a log line; a float is rounded to milliseconds, text with spaces quoted."""
    return " ".join(f"{name}={_show(value)}" for name, value in values.items())


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    # Quoted too is what could move a terminal's cursor or begin a line of its own.
    plain = text.isprintable() and not any(c in ' "' for c in text)
    return text if text and plain else repr(text)
