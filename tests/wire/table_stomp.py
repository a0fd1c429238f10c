"""Transcripts of the commands: CONNECT and heart-beats, subscriptions, messages, the end."""

from __future__ import annotations

from tests.wire.frames import frame
from tests.wire.player import (
    REQUESTS,
    Alive,
    Beat,
    Closed,
    Error,
    Event,
    Exactly,
    Kicks,
    Last,
    Leave,
    Message,
    Pause,
    Publish,
    Reply,
    Send,
    Transcript,
)
from tests.wire.table_frames import PING, SUBSCRIBED, ping

NO_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n"
    b"Connection: close\r\n\r\nthis port speaks STOMP\n"
)


def connect(*lines: str) -> bytes:
    return frame("CONNECT", "accept-version:1.2", *lines)


def connected(heartbeat: str) -> Exactly:
    return Exactly(frame("CONNECTED", "version:1.2", f"heart-beat:{heartbeat}"))


def agreed(says: str, offered: str | None, answer: str, differs: str = "") -> Transcript:
    """The heart-beats of an offer."""
    lines = () if offered is None else (f"heart-beat:{offered}",)
    return Transcript(says, (Send(connect(*lines)), connected(answer), Alive()), differs)


def refused_version(says: str, *lines: str) -> Transcript:
    """A CONNECT that is answered by an ERROR; the connection stays."""
    return Transcript(
        says,
        (
            Send(frame("CONNECT", *lines)),
            Error("Version unsupported"),
            Send(connect()),
            connected("0,0"),
            Alive(),
        ),
    )


def message(destination: str = "@", on: str = "a", sub: str = "s") -> Message:
    return Message((f"destination:{destination}", f"subscription:{sub}"), b"hi", on)


CONNECTING = [
    Transcript("CONNECT is answered by CONNECTED with version and heart-beat, and nothing else",
               (Send(connect()), connected("0,0"), Alive())),
    Transcript("login, passcode and host are not looked at",
               (Send(connect("login:x", "passcode:y", "host:z")), connected("0,0"))),
    refused_version("a list of versions is refused", "accept-version:1.1,1.2"),
    refused_version("no version is refused"),
    refused_version("an older version is refused", "accept-version:1.1"),
    Transcript("requests may come before CONNECT", (SUBSCRIBED, Send(ping()), Reply(1), Alive())),
    Transcript("subscriptions may come before CONNECT, as some clients send them",
               (Send(frame("SUBSCRIBE", "id:e", "destination:jms.queue.events.@")
                     + frame("SUBSCRIBE", "id:s", "destination:@")),
                Send(connect("heart-beat:0,5000")), connected("5000,0"), Send(ping()), Reply(1))),
    Transcript("CONNECT and SUBSCRIBE may come in one write",
               (Send(connect("heart-beat:0,24000")
                     + frame("SUBSCRIBE", "destination:@", "ack:auto", "id:s")),
                connected("24000,0"), Send(ping()), Reply(1))),
    Transcript("a client that names itself null is served",
               (Send(connect("heart-beat:0,5000", "host:null")), connected("5000,0"), SUBSCRIBED,
                Pause(0.1), Send(ping()), Reply(1))),
    Transcript("behind the last reply to a client that names a host lone LFs make it look again",
               (SUBSCRIBED, Send(connect("host:@")), connected("0,0"), Pause(0.1), Send(ping()),
                Reply(1), Kicks(3)),
               differs="sends none"),
    Transcript("behind a frame without a content-length no lone LF follows",
               (Send(connect("host:@")), connected("0,0"), Pause(0.3),
                Send(frame("DISCONNECT", "receipt:1")), Exactly(frame("RECEIPT", "receipt-id:1")),
                Pause(0.3), Send(frame("DISCONNECT")), Last(b""))),
    Transcript("a second CONNECT is answered again",
               (Send(connect()), connected("0,0"), Send(connect("heart-beat:2000,3000")),
                connected("3000,2000"), Alive())),
    Transcript("STOMP is CONNECT by another name",
               (Send(frame("STOMP", "accept-version:1.2")), connected("0,0"), Alive()),
               differs="closes the connection"),
    Transcript("a CONNECT of ten bytes is read as well",
               (Send(b"CONNECT\n\n\0"), Error("Version unsupported"), Alive()),
               differs="waits for an eleventh"),
    Transcript("HTTP is told that this is STOMP, and closed",
               (Send(b"GET /jsonrpc HTTP/1.1\r\nHost: x\r\n\r\n"), Last(NO_HTTP)),
               differs="serves files there"),
    # --- heart-beats ---
    agreed("the answer to 0,24000 is 24000,0", "0,24000", "24000,0"),
    agreed("the answer is the offer the other way round", "7000,5000", "5000,7000"),
    agreed("less than a second is raised to one", "500,1", "1000,1000"),
    agreed("without heart-beat there are none", None, "0,0"),
    agreed("rubbish is no heart-beat", "often,never", "0,0"),
    agreed("one number is no heart-beat", "5000", "0,0"),
    agreed("nothing is no heart-beat", "", "0,0"),
    agreed("spaces around the numbers are passed over", " 7000 , 5000 ", "5000,7000"),
    Transcript("a lone LF comes whenever nothing was sent for the time agreed on",
               (Send(connect("heart-beat:0,1000")), connected("1000,0"),
                Beat(0.9, 1.6), Beat(0.9, 1.6))),
    Transcript("replies put heart-beats off",
               (Send(connect("heart-beat:0,1000")), connected("1000,0"), SUBSCRIBED, Pause(0.6),
                Send(ping()), Reply(1), Beat(0.9, 1.6))),
    Transcript("without an agreement no heart-beat comes",
               (Send(connect("heart-beat:1000,0")), connected("0,1000"), Pause(0.8), Send(b"\n"),
                Pause(0.8), Alive())),
    Transcript("a client that is silent for the time agreed on is closed",
               (Send(connect("heart-beat:1000,0")), connected("0,1000"),
                Closed(after_s=0.9, within_s=4))),
    Transcript("lone LFs keep a connection open",
               (Send(connect("heart-beat:1000,0")), connected("0,1000"),
                *(step for _ in range(4) for step in (Pause(0.6), Send(b"\n"))), Alive())),
    Transcript("a client that agreed on nothing may be silent", (Send(connect()), connected("0,0"),
               Pause(2.2), Alive())),
]  # fmt: skip

SUBSCRIBING = [
    Transcript("SUBSCRIBE is not answered", (SUBSCRIBED, Alive())),
    Transcript("SUBSCRIBE gives no receipt",
               (Send(frame("SUBSCRIBE", "destination:@", "id:s", "receipt:1")), Alive())),
    Transcript("any ack is taken, and none is waited for",
               (Send(frame("SUBSCRIBE", "destination:@", "id:s", "ack:client-individual")),
                Send(ping()), Reply(1), Alive())),
    *(Transcript(f"SUBSCRIBE without {what} is answered by ERROR, and the connection stays",
                 (Send(frame("SUBSCRIBE", *lines)),
                  Error("Missing destination or subscription id header"), Alive()))
      for what, lines in {"id": ["destination:@"], "destination": ["id:s"], "either": [],
                          "the id's value": ["destination:@", "id:"],
                          "the destination's value": ["destination:", "id:s"]}.items()),
    Transcript("a subscription's id cannot be used twice, and the first one stays",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:other", "id:s")),
                Error("Subscription id already exists"), Send(ping()), Reply(1), Alive())),
    Transcript("other connections have ids of their own",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@b", "id:s"), on="b"), Alive(),
                Alive("b"))),
    Transcript("UNSUBSCRIBE without id is answered by ERROR, and the connection stays",
               (Send(frame("UNSUBSCRIBE", "destination:@")), Error("Missing id header"), Alive())),
    Transcript("UNSUBSCRIBE of an unknown id is passed over",
               (Send(frame("UNSUBSCRIBE", "id:nosuch")), Alive())),
    Transcript("after UNSUBSCRIBE nothing more comes",
               (SUBSCRIBED, Send(frame("UNSUBSCRIBE", "id:s")), Send(ping()), Alive())),
    Transcript("after UNSUBSCRIBE the id can be used again",
               (SUBSCRIBED, Send(frame("UNSUBSCRIBE", "id:s")), SUBSCRIBED, Send(ping()), Reply(1))),
    Transcript("DISCONNECT with a receipt is answered by RECEIPT, and the connection stays",
               (Send(frame("DISCONNECT", "receipt:77")), Exactly(frame("RECEIPT", "receipt-id:77")),
                Alive())),
    Transcript("UNSUBSCRIBE and DISCONNECT may come together, as some clients end",
               (SUBSCRIBED, Send(frame("UNSUBSCRIBE", "id:s") + frame("DISCONNECT", "receipt:1")),
                Exactly(frame("RECEIPT", "receipt-id:1")), Leave())),
    Transcript("a client that connects again subscribes to the same queue with the same id",
               (SUBSCRIBED, Send(ping()), Reply(1), Leave(),
                Send(frame("SUBSCRIBE", "destination:@", "id:s") + ping(), on="b"),
                Reply(1, on="b"), Alive("b"))),
    Transcript("DISCONNECT without a receipt closes the connection",
               (Send(frame("DISCONNECT")), Closed())),
]  # fmt: skip

SENDING = [
    Transcript("a message reaches the subscribers of its destination, with its headers",
               (SUBSCRIBED, Alive(),
                Send(frame("SEND", "destination:@", "content-type:x/y", "reply-to:r", "k:v",
                           body="hi"), on="b"),
                Message(("subscription:s", "destination:@", "content-type:x/y", "reply-to:r",
                         "k:v"), b"hi"), Alive("b"))),
    Transcript("a message reaches its sender's own subscription",
               (SUBSCRIBED, Send(frame("SEND", "destination:@", body="hi")), message())),
    Transcript("a message reaches the subscribers of what its destination is below",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@.b", "id:t"), on="b"),
                Alive(), Alive("b"), Send(frame("SEND", "destination:@.b.c", body="hi")),
                message("@.b.c"), message("@.b.c", on="b", sub="t"))),
    Transcript("a name that only begins alike is not below another",
               (SUBSCRIBED, Send(frame("SEND", "destination:@b", body="hi")),
                Error("Subscription not available"), Alive())),
    Transcript("what is above a subscription's destination does not reach it",
               (Send(frame("SUBSCRIBE", "destination:@.b", "id:s")),
                Send(frame("SEND", "destination:@", body="hi")),
                Error("Subscription not available"), Alive())),
    Transcript("a message to all subscriptions reaches each of them",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@", "id:t")),
                Send(frame("SEND", "destination:@", body="hi")), message(), message(sub="t"))),
    Transcript("a message to nobody is answered by ERROR, and the connection stays",
               (Send(frame("SEND", "destination:@", body="hi")),
                Error("Subscription not available"), Alive())),
    Transcript("a message to nowhere is answered by ERROR, and the connection stays",
               (Send(frame("SEND", body="hi")), Error("Missing destination header"), Alive()),
               differs="the connection dies"),
    Transcript("a client's event reaches the subscribers of events",
               (Send(frame("SUBSCRIBE", "destination:jms.queue.events.@", "id:s")), Alive(),
                Send(frame("SEND", "destination:jms.queue.events.@", body="hi"), on="b"),
                message("jms.queue.events.@"))),
]  # fmt: skip

ASKING = [
    *(Transcript(f"requests may be sent to {queue}",
                 (SUBSCRIBED, Send(frame("SEND", f"destination:{queue}", "reply-to:@", body=PING)),
                  Reply(1), Alive()))
      for queue in ("jms.topic.vdsm_requests", "jms.topic.vdsm_irs_requests",
                    "jms.topic.vdsm_requests.below", "jms.topic.vdsm_irs_requests.a.b")),
    Transcript("a name that only begins like a queue of requests is none",
               (Send(frame("SEND", "destination:jms.topic.vdsm_requestsx", body=PING)),
                Error("Subscription not available"), Alive())),
    Transcript("a reply goes to reply-to, with its headers in order",
               (SUBSCRIBED, Send(ping()), Reply(1), Alive())),
    Transcript("without reply-to a reply goes to jms.topic.vdsm_responses",
               (Send(frame("SUBSCRIBE", "destination:jms.topic.vdsm_responses", "id:r")),
                Send(frame("SEND", f"destination:{REQUESTS}", body=PING)),
                Reply(1, to="jms.topic.vdsm_responses", sub="r"), Alive())),
    Transcript("a reply that nobody waits for is dropped, and the connection stays",
               (Send(ping()), Alive())),
    Transcript("each of two connections with one queue has its own reply",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@", "id:t"), on="b"), Alive("b"),
                Send(ping()), Reply(1), Alive()),),
    Transcript("a reply goes to nobody but the one who asked",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@", "id:t"), on="b"), Alive("b"),
                Send(ping()), Reply(1), Alive("b")), differs="it goes to all subscribers"),
    Transcript("requests are seen by nobody else",
               (Send(frame("SUBSCRIBE", "destination:jms", "id:x"), on="b"),
                Send(frame("SUBSCRIBE", f"destination:{REQUESTS}", "id:y"), on="b"), Alive("b"),
                SUBSCRIBED, Send(ping()), Reply(1), Alive("b")),
               differs="subscribers of the queue see each request, and so each key", alone=True),
    Transcript("one id on two connections at once does no harm",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@b", "id:s"), on="b"),
                Send(ping()), Send(ping().replace(b"reply-to:@", b"reply-to:@b"), on="b"),
                Reply(1), Reply(1, on="b", to="@b"), Alive(), Alive("b"))),
    Transcript("one id twice on one connection is answered twice",
               (SUBSCRIBED, Send(ping() + ping()), Reply(1), Reply(1), Alive())),
    Transcript("the id of the flow does not matter to the reply",
               (SUBSCRIBED, Send(ping("ovirtCorrelationId:f1")), Reply(1), Alive())),
    Transcript("of two own subscriptions to the queue of replies the first has them",
               (SUBSCRIBED, Send(frame("SUBSCRIBE", "destination:@", "id:t")), Send(ping()),
                Reply(1), Alive()), differs="both have them"),
]  # fmt: skip

EVENTS = [
    Transcript("an event reaches who is subscribed to events, and tells when it was",
               (Send(frame("SUBSCRIBE", "destination:jms.queue.events", "id:@")), Alive(),
                Publish("|virt|VM_status|@", {"vm": {"status": "Up"}}),
                Event("|virt|VM_status|@", {"vm": {"status": "Up"}}, sub="@")),
               needs=frozenset({"events"}), alone=True),
    Transcript("an event reaches nobody else",
               (Send(frame("SUBSCRIBE", "destination:jms.queue", "id:s")
                     + frame("SUBSCRIBE", "destination:jms.queue.events.x", "id:t")),
                Alive(), Publish("|net|host_conn|no_id", {}), Alive()),
               needs=frozenset({"events"}), alone=True),
    Transcript("an event reaches every connection",
               (*(Send(frame("SUBSCRIBE", "destination:jms.queue.events", "id:e"), on=on)
                  for on in "ab"),
                Alive("a"), Alive("b"),
                Publish("|jobs|status|@", {"id": "x", "status": "done"}),
                *(Event("|jobs|status|@", {"id": "x", "status": "done"}, on=on) for on in "ab")),
               needs=frozenset({"events"}), alone=True),
]  # fmt: skip
