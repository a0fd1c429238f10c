"""Transcripts of frames: what is read, how it may be written, and what ends a connection."""

from __future__ import annotations

from tests.wire.frames import frame
from tests.wire.player import (
    REQUESTS,
    Alive,
    Closed,
    Exactly,
    Message,
    Reply,
    Send,
    Step,
    Transcript,
)

PING = '{"jsonrpc":"2.0","method":"Host.ping2","params":{},"id":1}'
SUBSCRIBED = Send(frame("SUBSCRIBE", "destination:@", "id:s"))
ASK = (f"destination:{REQUESTS}", "reply-to:@")
LONG = "x" * 300_000
# But the mark of the play's own name.
NO_TEXT = bytes(range(256)).replace(b"@", b"")


def ping(*lines: str) -> bytes:
    """A ping whose reply goes to the play's own queue."""
    return frame("SEND", *ASK, *lines, body=PING)


def answered(says: str, data: bytes, *, pieces: int = 0, differs: str = "") -> Transcript:
    """Bytes that ask for one ping, and its reply."""
    steps = (SUBSCRIBED, Send(data, pieces=pieces), Reply(1), Alive())
    return Transcript(says, steps, differs)


def ended(says: str, data: bytes) -> Transcript:
    """Bytes after which the connection is closed."""
    return Transcript(says, (Send(data), Closed()))


def echoed(says: str, written: str, differs: str = "") -> Transcript:
    """A destination whose name is written so comes back so, with every reply."""
    raw = (
        f"MESSAGE\ndestination:@{written}\ncontent-type:application/json\nsubscription:s\n"
        'content-length:38\n\n{"jsonrpc":"2.0","id":1,"result":true}\0'
    ).encode()
    asking = frame("SEND", f"destination:{REQUESTS}", f"reply-to:@{written}", body=PING)
    subscribed = Send(frame("SUBSCRIBE", f"destination:@{written}", "id:s"))
    # Byte for byte only ours: JSON may be written with spaces.
    steps = (subscribed, Send(asking), Exactly(raw), Alive())
    return Transcript(says, steps, differs, needs=frozenset({"compact json"}))


def forwarded(says: str, lines: tuple[str, ...], body: bytes, *, length: bool = True) -> Transcript:
    """A message to the play's own queue comes back with its headers and its body."""
    sent = frame("SEND", "destination:@", *lines, body=body, length=length)
    steps: tuple[Step, ...] = (
        SUBSCRIBED,
        Send(sent),
        Message(("destination:@", "subscription:s", *_meant(lines)), body),
        Alive(),
    )
    return Transcript(says, steps)


def _meant(lines: tuple[str, ...]) -> tuple[str, ...]:
    escapes = {"\\c": ":", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}

    def meant(text: str) -> str:
        parts = text.replace("\\\\", "\0").split("\0")
        for written, letter in escapes.items():
            parts = [part.replace(written, letter) for part in parts]
        return "\\".join(parts)

    return tuple(meant(line) for line in lines)


def with_ends(data: bytes, end: bytes) -> bytes:
    """A frame's head with other ends of lines."""
    head, _, body = data.partition(b"\n\n")
    return (head + b"\n\n").replace(b"\n", end) + body


FRAMES = [
    answered("a frame is command, headers, an empty line, a body and a NUL", ping()),
    answered("a CR before the LF is passed over", with_ends(ping(), b"\r\n")),
    answered(
        "a CR may stand before some ends of lines only",
        ping().replace(b"SEND\n", b"SEND\r\n").replace(b"\n\n", b"\n\r\n"),
    ),
    answered("empty lines before a frame are passed over", b"\n\n\n" + ping()),
    answered("empty lines with a CR before a frame are passed over", b"\r\n\n\r\n" + ping()),
    answered("empty lines behind a frame are passed over", ping() + b"\n\n\n"),
    answered("a frame may come byte by byte", b"\n" + ping() + b"\n", pieces=1),
    answered("a frame may come in pieces of seven bytes", ping(), pieces=7),
    Transcript(
        "two frames may come at once, and are answered in their order",
        (
            Send(frame("SUBSCRIBE", "destination:@", "id:s") + ping() + ping().replace(
                b'"id":1', b'"id":2')),
            Reply(1),
            Reply(2),
            Alive(),
        ),
    ),
    # --- content-length ---
    answered("with a content-length the body is that long", ping()),
    answered(
        "without a content-length the body ends at the first NUL",
        frame("SEND", *ASK, body=PING, length=False),
    ),
    forwarded("with a content-length a NUL in the body is part of it", (), b"a\0b\0\n\nc"),
    forwarded("a body may hold what looks like a frame", (), b"SEND\ndestination:x\n\n\0"),
    forwarded("a body may begin with ends of lines", (), b"\n\r\n\nx"),
    forwarded("a body may be of bytes that are no text", (), NO_TEXT),
    forwarded("without a content-length the body goes up to the NUL", (), b"a\n\nb", length=False),
    ended("a body longer than its content-length ends the connection",
          frame("SEND", *ASK, "content-length:3", body=PING, length=False)),
    ended("a missing NUL behind the body ends the connection",
          frame("SEND", *ASK, body=PING)[:-1] + b"\n\n\n"),
    ended("a content-length that is no number ends the connection",
          frame("SEND", *ASK, "content-length:x", body=PING, length=False)),
    ended("a negative content-length ends the connection",
          frame("SEND", *ASK, "content-length:-1", body=PING, length=False)),
    Transcript(
        "a content-length of 0 is an empty body",
        (Send(frame("SUBSCRIBE", "destination:@", "id:s", "content-length:0")), Alive()),
    ),
    Transcript(
        "a body of 300,000 bytes is read whole, and answered with as many",
        (
            SUBSCRIBED,
            Send(frame("SEND", *ASK, body=(
                f'{{"jsonrpc":"2.0","method":"Host.echo","params":{{"message":"{LONG}"}},"id":1}}'
            ))),
            Reply(1, LONG),
            Alive(),
        ),
    ),
    # --- escapes ---
    echoed("\\c is a colon, in and out", "a\\cb"),
    echoed("\\n is an LF, in and out", "a\\nb"),
    echoed("\\r is a CR, in and out", "a\\rb"),
    echoed("\\\\ is a backslash, in and out", "a\\\\b"),
    echoed("\\\\n is a backslash and an n, in and out", "a\\\\nb"),
    echoed("headers are UTF-8, in and out", "ü€🐙"),
    forwarded("escapes count in the names of headers", ("x\\cy:1",), b"b"),
    forwarded("escapes count in the values of headers", ("x:a\\cb\\\\c\\nd\\re",), b"b"),
    Transcript(
        "escapes count in CONNECT",
        (
            Send(frame("CONNECT", "accept\\cversion:1.1", "accept-version:1.2", "x:a\\cb\\nc")),
            Exactly(frame("CONNECTED", "version:1.2", "heart-beat:0,0")),
            Alive(),
        ),
    ),
    Transcript(
        "a receipt is told with its escapes",
        (
            Send(frame("DISCONNECT", "receipt:a\\cb\\\\c\\n")),
            Exactly(frame("RECEIPT", "receipt-id:a\\cb\\\\c\\n")),
        ),
    ),
    ended("an unknown escape in a value ends the connection",
          frame("SUBSCRIBE", "destination:a\\tb", "id:s")),
    ended("an unknown escape in a name ends the connection",
          frame("SUBSCRIBE", "destination:@", "id:s", "x\\ty:1")),
    ended("an unknown escape in CONNECT ends the connection",
          frame("CONNECT", "accept-version:1.2", "x:\\t")),
    ended("a lone backslash ends the connection", frame("SUBSCRIBE", "destination:a\\", "id:s")),
    ended("a colon in a value ends the connection", frame("SUBSCRIBE", "destination:a:b", "id:s")),
    ended("a colon in a value in CONNECT ends the connection",
          frame("CONNECT", "accept-version:1.2", "host:a:b")),
    # --- headers ---
    Transcript(
        "the first of repeated headers counts",
        (
            Send(frame("SUBSCRIBE", "destination:@", "destination:x", "id:s", "id:t")),
            Send(frame("SEND", f"destination:{REQUESTS}", "destination:x", "reply-to:@",
                       "reply-to:x", body=PING)),
            Reply(1),
            Alive(),
        ),
    ),
    ended("a header that is no UTF-8 ends the connection",
          frame("SUBSCRIBE", "destination:@", "id:s").replace(b"id:s", b"id:\xff")),
    ended("a header without a colon ends the connection",
          frame("SUBSCRIBE", "destination:@", "id:s", "nothing")),
    answered("unknown headers are passed over", ping("x-unknown:1", "priority:9", "receipt:7")),
    answered("the content-type may be anything, or be missing", ping("content-type:text/plain")),
    # --- commands ---
    *(ended(f"{command} ends the connection", frame(command, "id:1", "transaction:1"))
      for command in ("ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "NOSUCH", "connect", "SENDS")),
    *(ended(f"{command} from a client ends the connection",
            frame(command, "destination:@", "subscription:s", "receipt-id:1", "version:1.2"))
      for command in ("MESSAGE", "CONNECTED", "RECEIPT", "ERROR")),
    ended("an escape in a command ends the connection", b"SEN\\cD\ndestination:a\n\n\0"),
    ended("what is no STOMP ends the connection", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9),
]  # fmt: skip
