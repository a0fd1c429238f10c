"""Keys as libvirt secrets: what Vdsm's own tests promise, and what ours adds."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import libvirt
import pytest

from tests.integration.conftest import Site, secret_info
from tests.integration.recorder import RecordingClient, error_of
from tests.lab.daemon import Daemon
from tests.lab.libvirtd import PrivateLibvirtd
from virtceph.sensitive import Sensitive


@pytest.fixture
def other(
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    libvirtd: PrivateLibvirtd,
) -> Iterator[RecordingClient]:
    """A daemon with a prefix of its own, so that `clear` does not take the shared site's key."""
    daemon = start_daemon(
        f"other-{uuid.uuid4().hex[:6]}", overrides={"secrets": {"usage_prefix": "other/"}}
    )
    yield connect(daemon)
    daemon.stop()


def info(value: bytes = b"value", **fields: Any) -> dict[str, Any]:
    ident = fields.pop("uuid", uuid.uuid4())
    return secret_info(ident, Sensitive(value), **{"usageID": f"other/{ident}", **fields})


def usages(connection: libvirt.virConnect) -> dict[UUID, str]:
    return {UUID(s.UUIDString()): s.usageID() for s in connection.listAllSecrets()}


@pytest.fixture
def foreign(connection: libvirt.virConnect) -> Iterator[UUID]:
    """A persistent secret of the administrator's."""
    ident = uuid.uuid4()
    xml = f"<secret ephemeral='no' private='no'><uuid>{ident}</uuid><usage type='ceph'><name>other/{ident}</name></usage></secret>"  # noqa: E501
    secret = connection.secretDefineXML(xml)
    secret.setValue(b"theirs")
    yield ident
    assert secret.value() == b"theirs"
    secret.undefine()


def test_a_registered_secret_is_ephemeral_private_and_listed(
    other: RecordingClient, connection: libvirt.virConnect
) -> None:
    secret = info(description="for <tests> & co")
    assert other.call("Host.registerSecrets", secrets=[secret]) is True
    found = connection.secretLookupByUUIDString(str(secret["uuid"]))
    assert 'ephemeral="yes" private="yes"' in found.XMLDesc().replace("'", '"')
    with pytest.raises(libvirt.libvirtError):
        found.value()
    (listed,) = other.call("Host.listSecrets")
    assert listed["usageID"] == secret["usageID"]
    assert listed["description"] == "for <tests> & co"
    assert "password" not in listed


@pytest.mark.parametrize("usage_type", ["ceph", "volume", "iscsi"])
def test_each_usage_type_is_registered(
    other: RecordingClient, connection: libvirt.virConnect, usage_type: str
) -> None:
    secret = info(usageType=usage_type, usageID=f"other/{uuid.uuid4()}/{usage_type}")
    other.call("Host.registerSecrets", secrets=[secret])
    assert usages(connection)[secret["uuid"]] == secret["usageID"]


BAD = [
    ("secrets[1].uuid", {"uuid": "nonsense"}),
    ("secrets[1].uuid", {"uuid": None}),
    ("secrets[1].usageType", {"usageType": "vtpm"}),
    ("secrets[1].usageID", {"usageID": "ovirt/not-this-prefix"}),
    ("secrets[1].usageID", {"usageID": 5}),
    ("secrets[1].password", {"password": "###not base64#"}),
    ("secrets[1].password", {"password": "YQ"}),
    ("secrets[1].password", {"password": ""}),
    ("secrets[1].password", {"password": base64.b64encode(b"x" * 65537).decode()}),
    ("secrets[1].description", {"description": "bell\x07"}),
    ("secrets[1].colour", {"colour": "red"}),
]


@pytest.mark.parametrize(("field", "change"), BAD)
def test_a_malformed_secret_is_error_72_and_nothing_is_touched(
    other: RecordingClient, connection: libvirt.virConnect, field: str, change: dict[str, Any]
) -> None:
    before = usages(connection)
    error = error_of(
        other.call, "Host.registerSecrets", secrets=[info(), {**info(), **change}], clear=True
    )
    assert (error.code, error.data["field"]) == (72, field)
    assert usages(connection) == before


@pytest.mark.parametrize("field", ["uuid", "usageType", "usageID", "password"])
def test_a_missing_field_is_error_72(other: RecordingClient, field: str) -> None:
    secret = info()
    del secret[field]
    error = error_of(other.call, "Host.registerSecrets", secrets=[secret])
    assert (error.code, error.data["field"]) == (72, f"secrets[0].{field}")


def test_the_same_uuid_or_usage_id_twice_in_a_request_is_error_72(other: RecordingClient) -> None:
    one = info()
    assert error_of(other.call, "Host.registerSecrets", secrets=[one, one]).code == 72
    twin = info(usageID=one["usageID"])
    assert error_of(other.call, "Host.registerSecrets", secrets=[one, twin]).code == 72


def test_registering_again_replaces_the_value(other: RecordingClient) -> None:
    secret, neighbour = info(b"old"), info(b"stays")
    other.call("Host.registerSecrets", secrets=[secret, neighbour])
    before = {s["uuid"]: s["fingerprint"] for s in other.call("Host.listSecrets")}
    other.call("Host.registerSecrets", secrets=[{**secret, "password": Sensitive(b"new")}])
    after = {s["uuid"]: s["fingerprint"] for s in other.call("Host.listSecrets")}
    assert before[str(secret["uuid"])] != after[str(secret["uuid"])]
    assert before[str(neighbour["uuid"])] == after[str(neighbour["uuid"])]


def test_a_changed_usage_id_works(other: RecordingClient, connection: libvirt.virConnect) -> None:
    secret = info()
    other.call("Host.registerSecrets", secrets=[secret])
    other.call("Host.registerSecrets", secrets=[{**secret, "usageID": "other/renamed"}])
    assert usages(connection)[secret["uuid"]] == "other/renamed"


def test_two_secrets_may_swap_their_usage_ids_in_one_request(
    other: RecordingClient, connection: libvirt.virConnect
) -> None:
    one, two = info(), info()
    other.call("Host.registerSecrets", secrets=[one, two])
    swapped = [{**one, "usageID": two["usageID"]}, {**two, "usageID": one["usageID"]}]
    other.call("Host.registerSecrets", secrets=swapped)
    assert usages(connection)[one["uuid"]] == two["usageID"]


def test_a_usage_id_held_by_another_uuid_is_told_with_its_holder(
    other: RecordingClient, connection: libvirt.virConnect
) -> None:
    holder = info()
    other.call("Host.registerSecrets", secrets=[holder])
    rival = info(usageID=holder["usageID"])
    error = error_of(other.call, "Host.registerSecrets", secrets=[rival])
    assert (error.code, error.name) == (73, "SecretUsageTaken")
    assert error.data["holder"] == str(holder["uuid"])
    assert rival["uuid"] not in usages(connection)
    # With `clear` the holder goes, and there is nothing in the way.
    assert other.call("Host.registerSecrets", secrets=[rival], clear=True) is True


def test_clear_removes_ours_only(
    other: RecordingClient, site: Site, connection: libvirt.virConnect, foreign: UUID
) -> None:
    old, new = info(), info()
    other.call("Host.registerSecrets", secrets=[old])
    other.call("Host.registerSecrets", secrets=[new], clear=True)
    left = usages(connection)
    assert old["uuid"] not in left
    assert {new["uuid"], site.secret_uuid, foreign} <= set(left)
    other.call("Host.registerSecrets", secrets=[], clear=True)
    assert new["uuid"] not in usages(connection)


def test_a_foreign_secret_is_never_overwritten_or_removed(
    other: RecordingClient, connection: libvirt.virConnect, foreign: UUID
) -> None:
    error = error_of(other.call, "Host.registerSecrets", secrets=[info(uuid=foreign)])
    assert (error.code, error.name) == (73, "ForeignSecret")
    mine = info()
    other.call("Host.registerSecrets", secrets=[mine])
    error = error_of(other.call, "Host.unregisterSecrets", uuids=[mine["uuid"], foreign])
    assert (error.code, error.name) == (74, "ForeignSecretKept")
    assert {mine["uuid"], foreign} <= set(usages(connection))


def test_unregistering_removes_the_named_ones_and_skips_unknown_ones(
    other: RecordingClient, connection: libvirt.virConnect
) -> None:
    gone, stays = info(), info()
    other.call("Host.registerSecrets", secrets=[gone, stays])
    uuids = [gone["uuid"], uuid.uuid4()]
    assert other.call("Host.unregisterSecrets", uuids=uuids) is True
    assert other.call("Host.unregisterSecrets", uuids=uuids) is True
    assert gone["uuid"] not in usages(connection)
    assert stays["uuid"] in usages(connection)


def test_unregistering_a_malformed_uuid_is_error_72_and_nothing_is_touched(
    other: RecordingClient, connection: libvirt.virConnect
) -> None:
    secret = info()
    other.call("Host.registerSecrets", secrets=[secret])
    error = error_of(other.call, "Host.unregisterSecrets", uuids=[secret["uuid"], "x"])
    assert (error.code, error.data["field"]) == (72, "uuids[1]")
    assert secret["uuid"] in usages(connection)


def test_a_refusal_by_libvirt_leaves_what_was_there(
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    libvirtd: PrivateLibvirtd,
    connection: libvirt.virConnect,
) -> None:
    """libvirt's read-only socket lets a daemon start and refuses every change."""
    read_only = libvirtd.socket.with_name("libvirt-sock-ro")
    daemon = start_daemon(
        "read-only",
        uri=f"qemu+unix:///system?socket={read_only}",
        overrides={"secrets": {"usage_prefix": "other/"}},
    )
    client = connect(daemon)
    left = uuid.uuid4()
    xml = f"<secret ephemeral='yes' private='yes'><uuid>{left}</uuid><usage type='ceph'><name>other/{left}</name></usage></secret>"  # noqa: E501
    secret = connection.secretDefineXML(xml)
    secret.setValue(b"left by a crash")
    before = usages(connection)
    try:
        error = error_of(client.call, "Host.registerSecrets", secrets=[info()])
        assert (error.code, error.name) == (73, "SecretRegistrationFailed")
        error = error_of(client.call, "Host.unregisterSecrets", uuids=[left])
        assert (error.code, error.name) == (74, "SecretUnregistrationFailed")
        assert usages(connection) == before
        assert client.call("Host.listSecrets") == []
    finally:
        secret.undefine()
        daemon.stop()


def test_a_thousand_secrets_are_registered_and_removed(
    other: RecordingClient, connection: libvirt.virConnect
) -> None:
    secrets = [info() for _ in range(1000)]
    other.call("Host.registerSecrets", secrets=secrets)
    assert len(other.call("Host.listSecrets")) == 1000
    other.call("Host.unregisterSecrets", uuids=[s["uuid"] for s in secrets])
    assert not {s["uuid"] for s in secrets} & set(usages(connection))
