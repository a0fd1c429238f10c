"""The errors of libvirt, librados and librbd become ours, once."""

from __future__ import annotations

import errno
from uuid import UUID

import libvirt
import pytest
import rados
import rbd

from tests.fakes.libvirt_error import bare_error
from virtceph import errors
from virtceph.ceph.faults import ceph_faults, errno_of
from virtceph.virt.faults import AgentFault, agent_fault, libvirt_faults, reason_of

VM = UUID(int=1)
RPC, QEMU, REMOTE = libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_QEMU, libvirt.VIR_FROM_REMOTE


def fault(code: int, message: str = "no", domain: int = QEMU) -> libvirt.libvirtError:
    """As libvirt-python makes it: the raw error, a tuple of nine, hangs on the exception."""
    error = libvirt.libvirtError("call failed")
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, None, None, None, -1, -1)
    return error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (fault(libvirt.VIR_ERR_NO_DOMAIN), errors.NoSuchVM),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR), errors.LibvirtFailed),
        (fault(libvirt.VIR_ERR_OPERATION_INVALID), errors.LibvirtFailed),
        (fault(libvirt.VIR_ERR_SYSTEM_ERROR), errors.LibvirtFailed),
        (fault(libvirt.VIR_ERR_INVALID_CONN), errors.LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_SYSTEM_ERROR, domain=RPC), errors.LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR, domain=RPC), errors.LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_NO_CONNECT, domain=REMOTE), errors.LibvirtUnavailable),
        (fault(libvirt.VIR_ERR_RPC, domain=RPC), errors.LibvirtFailed),
    ],
)
def test_libvirts_errors(error: libvirt.libvirtError, ours: type[Exception]) -> None:
    with pytest.raises(ours) as caught, libvirt_faults("do it", VM):
        raise error
    assert caught.value.__cause__ is error


def test_a_missing_domain_where_none_was_asked_for_is_a_refusal() -> None:
    with pytest.raises(errors.LibvirtFailed) as caught, libvirt_faults("list"):
        raise fault(libvirt.VIR_ERR_NO_DOMAIN, "gone\n  now")
    assert (caught.value.libvirt_code, caught.value.reason) == (42, "gone now")


def test_an_error_without_details_has_a_reason_all_the_same() -> None:
    assert reason_of(bare_error("call failed")) == "call failed"
    with pytest.raises(TypeError), libvirt_faults("do it"):
        raise TypeError  # not libvirt's: not ours to translate


FROZEN = "unable to execute QEMU agent command 'x': Command x has been disabled: the agent is in frozen state"
NEW = "unable to execute QEMU agent command 'x': Command x has been disabled: the command is not allowed"
OLD = "unable to execute QEMU agent command 'x': The command x has been disabled for this instance"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (fault(libvirt.VIR_ERR_AGENT_UNRESPONSIVE), AgentFault.UNRESPONSIVE),
        (fault(libvirt.VIR_ERR_OPERATION_TIMEOUT), AgentFault.UNRESPONSIVE),
        (fault(libvirt.VIR_ERR_AGENT_UNSYNCED), AgentFault.UNRESPONSIVE),
        (fault(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED), AgentFault.NO_CHANNEL),
        (fault(libvirt.VIR_ERR_OPERATION_INVALID), AgentFault.NOT_RUNNING),
        (fault(libvirt.VIR_ERR_NO_DOMAIN), AgentFault.GONE),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR, FROZEN), AgentFault.ALREADY_FROZEN),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR, OLD), AgentFault.ALREADY_FROZEN),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR, NEW), AgentFault.ALREADY_FROZEN),
        (fault(libvirt.VIR_ERR_INTERNAL_ERROR, "hook failed"), AgentFault.REFUSED),
        (fault(libvirt.VIR_ERR_SYSTEM_ERROR, domain=RPC), AgentFault.LOST_LIBVIRT),
    ],
)
def test_the_agents_errors(error: libvirt.libvirtError, told: AgentFault) -> None:
    assert agent_fault(error) is told


MISSING, EXISTS, BUSY = (
    errors.NoSuchVolume("x"),
    errors.VolumeExists("x"),
    errors.VolumeInUse("x", []),
)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (rbd.ImageNotFound("x", errno=errno.ENOENT), errors.NoSuchVolume),
        (rados.ObjectNotFound("x", errno=errno.ENOENT), errors.NoSuchVolume),
        (rbd.ImageExists("x", errno=errno.EEXIST), errors.VolumeExists),
        (rbd.ImageBusy("x", errno=errno.EBUSY), errors.VolumeInUse),
        (rbd.PermissionError("x", errno=errno.EPERM), errors.CephPermissionDenied),
        (rados.PermissionDeniedError("x", errno=errno.EACCES), errors.CephPermissionDenied),
        (rados.TimedOut("x", errno=errno.ETIMEDOUT), errors.CephUnavailable),
        (rbd.Timeout("x", errno=errno.ETIMEDOUT), errors.CephUnavailable),
        (rbd.ConnectionShutdown("x", errno=errno.ESHUTDOWN), errors.CephUnavailable),
        (rbd.ReadOnlyImage("x", errno=errno.EROFS), errors.CephUnavailable),
        (rbd.OSError("x", errno=errno.EBADMSG), errors.CephUnavailable),
        (rbd.OSError("x", errno=-errno.ENOTCONN), errors.CephUnavailable),
        (rbd.InvalidArgument("x", errno=errno.EINVAL), errors.CephFailed),
        (rbd.Error("x"), errors.CephFailed),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_cephs_errors(error: Exception, ours: type[Exception]) -> None:
    guard = ceph_faults("do it", "virtceph", not_found=MISSING, exists=EXISTS, busy=BUSY)
    with pytest.raises(ours) as caught, guard:
        raise error
    assert caught.value.__cause__ is error


def test_what_is_missing_where_nothing_was_named_is_a_refusal() -> None:
    with pytest.raises(errors.CephFailed) as caught, ceph_faults("open", "virtceph"):
        raise rbd.ImageNotFound("x", errno=errno.ENOENT)
    assert (caught.value.errno, caught.value.operation) == (errno.ENOENT, "open")


def test_a_denial_names_the_user_the_step_and_what_is_missing() -> None:
    with pytest.raises(errors.CephPermissionDenied) as caught, ceph_faults("open", "cinder"):
        raise rados.PermissionError("x", errno=errno.EPERM)
    assert str(caught.value).endswith("client.cinder, open: missing osd 'profile rbd'")


def test_an_errno_is_positive_and_never_missing() -> None:
    assert errno_of(rbd.OSError("x", errno=-errno.EROFS)) == errno.EROFS
    assert errno_of(rbd.Error("x")) == errno.EIO
