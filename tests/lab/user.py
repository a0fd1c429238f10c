"""The system user and group `virtceph`, under which the daemon runs in the lab as in production."""

import grp
import pwd
from dataclasses import dataclass

from tests.lab.processes import run
from tests.lab.state import one_at_a_time

NAME = "virtceph"


@dataclass(frozen=True)
class DaemonUser:
    """The ids, and what had to be created for them."""

    uid: int
    gid: int
    created_group: bool
    created_user: bool


def ensure() -> DaemonUser:
    """Make sure that group and user exist. They stay: other labs may run under them. Blocks."""
    with one_at_a_time("user"):
        created_group = not _has_group()
        if created_group:
            run(["groupadd", "--system", NAME])
        created_user = not _has_user()
        if created_user:
            options = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--gid", NAME]
            run(["useradd", *options, "--shell", "/usr/sbin/nologin", NAME])
    uid, gid = pwd.getpwnam(NAME).pw_uid, grp.getgrnam(NAME).gr_gid
    return DaemonUser(uid, gid, created_group, created_user)


def _has_group() -> bool:
    try:
        grp.getgrnam(NAME)
    except KeyError:
        return False
    return True


def _has_user() -> bool:
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        return False
    return True
