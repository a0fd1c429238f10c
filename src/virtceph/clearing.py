"""Just the secrets, without a daemon: for clearing them from the unit's stop-post step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from virtceph import config
from virtceph.host.secrets import Secrets
from virtceph.virt.connection import Connection, start_event_loop
from virtceph.virt.secrets import SecretSession, secret_uri


@contextlib.contextmanager
def secrets_only(settings: config.Config) -> Iterator[Secrets]:
    """The secrets of this host's libvirt. Raises LibvirtUnavailable."""
    connection = Connection(
        secret_uri(settings.libvirt.uri, settings.libvirt.secret_uri) or settings.libvirt.uri
    )
    start_event_loop()
    connection.open(settings.libvirt.connect_timeout_s)
    try:
        yield Secrets(lambda: SecretSession(connection.get()), settings.secrets.usage_prefix)
    finally:
        connection.close()
