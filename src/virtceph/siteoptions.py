"""What an operator of a host without an engine says once: keys, and the storage domains they open."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph.option import option, required


@dataclass(frozen=True)
class Secret:
    """One `[[secret]]`: registered at each start, before anybody is served."""

    uuid: str = required(
        "The secret's UUID, as in the <auth> of the domains' XML.",
        "8ba0e5a6-9f23-4e0b-8a6c-0f4d4c1f7a11",
    )
    usage_id: str = required(
        "Its usage id: once per host, and begins with [secrets] usage_prefix.", "ovirt/web"
    )
    description: str = option("", "Shown where secrets are listed.")
    key_file: str = option(
        "",
        "The key in base64, as `ceph auth get-key` prints it. A name without a slash is a credential that\n"
        "systemd passes (LoadCredentialEncrypted= in the unit). Not to be readable by everybody.",
    )
    keyring: str = option(
        "", "In place of key_file: a keyring of Ceph's, which has the key of `user`."
    )
    user: str = option("", "The user in the keyring, without `client.`.")


@dataclass(frozen=True)
class StorageDomain:
    """One `[[storage_domain]]`: connected at each start, and tried again while its cluster is away."""

    uuid: str = required("The id that verbs name it by.", "c1d3a9a0-52f7-4f0e-8f39-6f7f6b8d2e10")
    name: str = option("", "Shown where storage domains are listed.")
    monitors: list[str] = required(
        "The monitors' addresses: host:port, v1:host:port or v2:host:port.", ["10.0.0.1:6789"]
    )
    pool: str = required("The pool.", "rbd")
    namespace: str = option("", "The namespace in it, if not the default one.")
    user: str = required("The cephx user, without `client.`.", "web")
    secret: str = required(
        "The UUID of a [[secret]] with the user's key.", "8ba0e5a6-9f23-4e0b-8a6c-0f4d4c1f7a11"
    )
