"""libvirt's exception as it is when libvirt gave no details."""

import libvirt


def bare_error(message: str) -> libvirt.libvirtError:
    """One with a message only. The binding by itself adds the last error of this thread, whosever it was."""
    libvirt.virResetLastError()
    return libvirt.libvirtError(message)
