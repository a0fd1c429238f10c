"""Who may call over the UNIX socket."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket

import pytest

from virtceph.rpc import access
from virtceph.rpc.access import Peer, UnixAccess

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


def test_root_may_call_even_where_the_group_is_unknown() -> None:
    assert UnixAccess("no-such-group").allows(peer(uid=0))


def test_nobody_else_may_call_where_the_group_is_unknown() -> None:
    assert not UnixAccess("no-such-group").allows(peer())


def test_members_may_call_by_their_primary_or_another_group() -> None:
    gid = grp.getgrnam(GROUP).gr_gid
    assert UnixAccess(GROUP).allows(peer(gid=gid))
    assert UnixAccess(GROUP).allows(peer(groups=frozenset({1, gid})))


def test_a_stranger_may_not_call() -> None:
    assert not UnixAccess(GROUP).allows(peer(groups=frozenset({NOBODY + 1})))


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
