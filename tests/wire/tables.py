"""Every transcript of what engines speak."""

from __future__ import annotations

from tests.wire.player import Transcript
from tests.wire.table_frames import FRAMES
from tests.wire.table_rpc import RPC
from tests.wire.table_stomp import ASKING, CONNECTING, EVENTS, SENDING, SUBSCRIBING

TABLES: dict[str, list[Transcript]] = {
    "frames": FRAMES,
    "connecting, heart-beats": CONNECTING,
    "subscribing": SUBSCRIBING,
    "sending": SENDING,
    "asking": ASKING,
    "JSON-RPC": RPC,
    "events": EVENTS,
}
ALL = [transcript for table in TABLES.values() for transcript in table]
