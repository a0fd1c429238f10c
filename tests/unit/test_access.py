"""Who may call, and what."""

from __future__ import annotations

import errno
import grp
import itertools
import os
import pwd
import socket

import pytest

from virtceph import config
from virtceph.config import ConfigError
from virtceph.rpc import access
from virtceph.rpc.access import Access, Peer
from virtceph.rpc.callers import Caller

GROUP = grp.getgrgid(os.getgid()).gr_name
NOBODY = 54321


def peer(uid: int = NOBODY, gid: int = NOBODY, groups: frozenset[int] = frozenset()) -> Peer:
    return Peer(1, uid, gid, groups)


def test_a_real_peer_is_known_to_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = Peer.of(ours.fileno())
        assert ours.getsockname() == ""  # still open: a copy was asked
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert found.groups >= set(os.getgroups())


def test_a_peer_is_named_by_its_user() -> None:
    assert peer(uid=os.getuid()).name() == f"unix:{pwd.getpwuid(os.getuid()).pw_name}"


def test_a_uid_without_a_name_is_told_as_a_number() -> None:
    assert peer(uid=4_000_000_000).name() == "unix:4000000000"


def access_of(**lists: list[str]) -> Access:
    return Access(config.Access(**{"admins": [], **lists}))


def level(access: Access, peer_: Peer) -> str | None:
    caller = access.of_peer(peer_)
    return None if caller is None else caller.level


def test_root_may_do_everything_even_where_the_group_is_unknown() -> None:
    access = access_of(admins=["user:root", "group:no-such-group"])
    assert level(access, peer(uid=0)) == "admin"
    assert level(access, peer()) is None


def test_members_count_by_their_primary_or_another_group() -> None:
    gid = grp.getgrnam(GROUP).gr_gid
    for group in (GROUP, str(gid)):
        access = access_of(operators=[f"group:{group}"])
        assert level(access, peer(gid=gid)) == "operator"
        assert level(access, peer(groups=frozenset({1, gid}))) == "operator"
        assert level(access, peer(groups=frozenset({NOBODY + 1}))) is None


def test_of_several_rules_the_highest_level_counts() -> None:
    access = access_of(monitors=["user:0"], operators=["group:0"], admins=[f"user:{NOBODY}"])
    assert level(access, peer(uid=0)) == "monitor"
    assert level(access, peer(uid=0, gid=0)) == "operator"
    assert level(access, peer(gid=0)) == "admin"


SUBJECT = (("O", "Example"), ("CN", "engine.example.com"))


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("cert:*", True),
        ("cert:CN=engine.example.com", True),
        ("cert:CN=engine.example.com, O=Example", True),
        ("cert:CN=engine", False),
        ("cert:CN=engine.example.com,O=Other", False),
        ("user:root", False),
    ],
)
def test_a_certificate_is_known_by_all_that_its_rule_names(rule: str, fits: bool) -> None:
    caller = access_of(monitors=[rule]).of_subject(SUBJECT, "10.0.0.1:1")
    assert (caller is not None) == fits
    if caller is not None:
        assert caller.name == "cert:O=Example,CN=engine.example.com"
        assert (caller.level, caller.source) == ("monitor", "10.0.0.1:1")


def test_a_certificate_is_never_a_peer() -> None:
    assert level(access_of(admins=["cert:*"]), peer(uid=0)) is None


@pytest.mark.parametrize("rule", ["root", "user:", "cert:engine", "uid:0", ":", "cert:CN=a,b"])
def test_a_rule_that_is_none_is_refused_with_its_option(rule: str) -> None:
    with pytest.raises(ConfigError, match=r"access\.operators"):
        access_of(operators=[rule])


def test_each_level_includes_the_ones_before_it() -> None:
    levels = ("monitor", "operator", "admin")
    for has, needs in itertools.product(levels, levels):
        may = Caller("x", has).may(needs)
        assert may == (levels.index(has) >= levels.index(needs))


class ManyGroups:
    """A connection whose peer is in more groups than Python can read."""

    def getsockopt(self, *_all: int) -> bytes:
        raise OSError(self.code, "")

    code = errno.ERANGE


def test_a_member_of_hundreds_of_groups_counts_by_its_primary_one() -> None:
    assert access._groups(ManyGroups()) == frozenset()  # type: ignore[arg-type]


def test_groups_that_cannot_be_read_are_no_empty_answer() -> None:
    broken = ManyGroups()
    broken.code = errno.EBADF
    with pytest.raises(OSError, match="Errno"):
        access._groups(broken)  # type: ignore[arg-type]
