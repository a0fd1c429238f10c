"""A secret cannot be printed."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from virtceph.log import facts
from virtceph.sensitive import Sensitive

KEY = "never-to-be-seen"
SECRET = Sensitive(KEY.encode())


@dataclasses.dataclass
class Holder:
    name: str
    value: Sensitive


def _traceback() -> str:
    try:
        raise ValueError(SECRET)
    except ValueError:
        return traceback.format_exc()


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        lambda s: f"{s}",
        lambda s: f"{s!r:>20}",
        lambda s: f"{s:x}",
        lambda s: "%s %r" % (s, s),  # noqa: UP031
        lambda s: "{0} {0!s}".format(s),  # noqa: UP032
        lambda s: repr([s, {s: s}]),
        lambda s: repr(Holder("x", s)),
        lambda s: repr(ValueError(s)),
        lambda s: facts(key=s, all=[s]),
        lambda _s: _traceback(),
        ascii,
    ],
)
def test_it_is_never_shown(show: Callable[[Any], str]) -> None:
    shown = show(SECRET)
    assert KEY not in shown
    assert "********" in shown


@pytest.mark.parametrize(
    "leak",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        orjson.dumps,
        bytes,
        vars,
        lambda s: dataclasses.asdict(Holder("x", s)),
        lambda s: "%d" % s,  # noqa: UP031
        lambda s: "".join(s),
    ],
)
def test_what_would_take_it_apart_fails_and_does_not_tell(leak: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        leak(SECRET)
    assert KEY not in str(caught.value)


def test_the_log_shows_stars(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").error("%s %r %s", SECRET, SECRET, Holder("x", SECRET))
    assert KEY not in caplog.text
    assert caplog.text.count("********") == 3


def test_its_value_is_had_by_asking() -> None:
    assert SECRET.reveal() == KEY.encode()
    assert SECRET.reveal_base64() == "bmV2ZXItdG8tYmUtc2Vlbg=="


def test_equal_values_are_equal_and_others_are_not() -> None:
    assert Sensitive(b"a") == Sensitive(b"a")
    assert Sensitive(b"a") != Sensitive(b"b")
    assert Sensitive(b"a") != b"a"
    assert hash(Sensitive(b"a")) == hash(Sensitive(b"a"))


def test_a_fingerprint_depends_on_value_and_key() -> None:
    first = Sensitive(b"a").fingerprint(b"k")
    assert first == Sensitive(b"a").fingerprint(b"k")
    assert first != Sensitive(b"b").fingerprint(b"k")
    assert first != Sensitive(b"a").fingerprint(b"l")
    assert len(first) == 16
