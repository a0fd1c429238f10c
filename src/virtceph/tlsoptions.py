"""The files of TLS, as each of the ports that serve it has them in the configuration."""

from __future__ import annotations

from typing import Any

from virtceph.option import option


def certificate() -> Any:
    """The option for the host's certificate."""
    return option(
        "/etc/pki/vdsm/certs/vdsmcert.pem",
        "The host's certificate (PEM), with those that lead to its authority, if any. A new one, or a new\n"
        "key or authority, counts from the next connection on.",
    )


def key() -> Any:
    """The option for its private key."""
    return option("/etc/pki/vdsm/keys/vdsmkey.pem", "Its private key (PEM), without a passphrase.")


def authority() -> Any:
    """The option for the authority of those who call."""
    return option(
        "/etc/pki/vdsm/certs/cacert.pem", "The authority that callers' certificates are of (PEM)."
    )
