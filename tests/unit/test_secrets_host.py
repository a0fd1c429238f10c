"""Registering secrets: all or none, nobody else's ever, and back after libvirt was away."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.fakes.fake_events import Heard
from tests.fakes.fake_secret_session import FakeLibvirtSecrets, Stored
from virtceph import errors
from virtceph.events import SecretsLost, SecretsRegistered, SecretsRestored, SecretsUnregistered
from virtceph.host.secrets import SecretInfo, Secrets
from virtceph.sensitive import Sensitive
from virtceph.virt.secrets import Definition

A, B, C, D = (UUID(int=n) for n in (1, 2, 3, 4))


def info(uuid: UUID, usage: str | None = None, value: bytes = b"key", text: str = "") -> SecretInfo:
    return SecretInfo(uuid, "ceph", usage or f"ovirt/{uuid.int}", Sensitive(value), text)


@pytest.fixture
def libvirt() -> FakeLibvirtSecrets:
    return FakeLibvirtSecrets()


@pytest.fixture
def removed() -> list[set[UUID]]:
    return []


@pytest.fixture
def secrets(libvirt: FakeLibvirtSecrets, removed: list[set[UUID]], told: Heard) -> Secrets:
    return Secrets(libvirt.session, "ovirt/", removed.append, told)  # type: ignore[arg-type]


def foreign(libvirt: FakeLibvirtSecrets, uuid: UUID, usage: str, *, persistent: bool) -> None:
    stored = Stored(Definition(uuid, "ceph", usage), b"theirs", not persistent)
    libvirt.stored[uuid] = stored


def test_secrets_are_defined_with_their_values(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A), info(B, value=b"other")], clear=False)
    assert [stored.value for stored in libvirt.stored.values()] == [b"key", b"other"]
    assert secrets.key(B) == Sensitive(b"other")


def test_registering_the_same_again_changes_nothing(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A)], clear=False)
    before = libvirt.contents()
    secrets.register([info(A)], clear=False)
    assert libvirt.contents() == before


def test_a_secret_gets_a_new_value_and_a_new_usage_id(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A)], clear=False)
    secrets.register([info(A, "ovirt/new", b"new")], clear=False)
    assert libvirt.contents() == {A: (Definition(A, "ceph", "ovirt/new"), b"new")}
    assert secrets.key(A) == Sensitive(b"new")


def test_two_secrets_may_swap_their_usage_ids(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A, "ovirt/a"), info(B, "ovirt/b")], clear=False)
    secrets.register([info(A, "ovirt/b"), info(B, "ovirt/a")], clear=False)
    assert {u: d.usage_id for u, (d, _) in libvirt.contents().items()} == {
        A: "ovirt/b",
        B: "ovirt/a",
    }


def test_clear_removes_ours_that_are_not_in_the_list_and_nobody_elses(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, removed: list[set[UUID]]
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    foreign(libvirt, C, "ovirt/persistent", persistent=True)
    foreign(libvirt, D, "elsewhere", persistent=False)
    secrets.register([info(B)], clear=True)
    assert set(libvirt.stored) == {B, C, D}
    assert removed == [{A}]
    assert [secret.uuid for secret in secrets.registered()] == [B]


def test_a_usage_id_that_clear_frees_can_be_taken(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A, "ovirt/a")], clear=False)
    secrets.register([info(B, "ovirt/a")], clear=True)
    assert set(libvirt.stored) == {B}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ([info(A), info(B, "other/b")], "secrets[1].usageID"),
        ([info(A), info(A, "ovirt/b")], "secrets[1].uuid"),
        ([info(A, "ovirt/a"), info(B, "ovirt/a")], "secrets[1].usageID"),
    ],
)
def test_a_malformed_request_touches_nothing(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, request_: list[SecretInfo], field: str
) -> None:
    with pytest.raises(errors.BadSecretRequest) as caught:
        secrets.register(request_, clear=True)
    assert caught.value.field == field
    assert libvirt.calls == []


@pytest.mark.parametrize(("usage", "persistent"), [("ovirt/x", True), ("elsewhere", False)])
def test_a_foreign_secret_is_never_overwritten(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, usage: str, persistent: bool
) -> None:
    foreign(libvirt, A, usage, persistent=persistent)
    before = libvirt.contents()
    with pytest.raises(errors.ForeignSecret):
        secrets.register([info(B), info(A)], clear=True)
    assert libvirt.contents() == before


def test_a_taken_usage_id_is_refused_with_its_holder(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A, "ovirt/a")], clear=False)
    before = libvirt.contents()
    with pytest.raises(errors.SecretUsageTaken) as caught:
        secrets.register([info(C), info(B, "ovirt/a")], clear=False)
    assert caught.value.holder == A
    assert libvirt.contents() == before


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
@pytest.mark.parametrize("clear", [False, True])
def test_a_failure_at_any_item_restores_exactly_what_was_there(
    secrets: Secrets,
    libvirt: FakeLibvirtSecrets,
    removed: list[set[UUID]],
    failing: int,
    clear: bool,
) -> None:
    left = UUID(int=9)
    secrets.register(
        [info(A, value=b"a", text="first"), info(B, "ovirt/b", b"b"), info(left, "ovirt/left")],
        clear=False,
    )
    foreign(libvirt, UUID(int=8), "ovirt/persistent", persistent=True)
    before, listed = libvirt.contents(), secrets.registered()
    wanted = [
        info(C),
        info(A, value=b"changed"),  # another value
        info(B, "ovirt/moved", b"moved"),  # another usage id
        info(D, "ovirt/b"),  # the usage id that B leaves
    ]
    # It fails for the new secrets alone: putting back what was there still works.
    bad = wanted[failing]
    puts: list[str] = []

    def refuse_once(call: str) -> None:
        puts.append(call)
        again = puts.count(f"put {bad.uuid}") > 1
        libvirt.refuse_value = set() if again else {bad.uuid}

    libvirt.before_call = refuse_once
    with pytest.raises(errors.SecretRegistrationFailed) as caught:
        secrets.register(wanted, clear=clear)
    assert caught.value.uuid == bad.uuid
    assert libvirt.contents() == before
    assert secrets.registered() == listed
    assert removed == []


def test_a_removal_that_fails_restores_what_was_there(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    before = libvirt.contents()
    libvirt.refuse_removal = {B}
    with pytest.raises(errors.SecretRegistrationFailed):
        secrets.register([info(C)], clear=True)
    assert libvirt.contents() == before


def test_secrets_are_back_after_libvirt_lost_them(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A, value=b"a"), info(B, value=b"b")], clear=False)
    before = libvirt.contents()
    libvirt.restart()
    assert libvirt.contents() == {}
    secrets.restore(libvirt.session())  # type: ignore[arg-type]
    assert libvirt.contents() == before


def test_one_secret_that_cannot_be_restored_does_not_keep_the_others_away(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    libvirt.restart()
    libvirt.refuse_value = {A}
    secrets.restore(libvirt.session())  # type: ignore[arg-type]
    assert libvirt.stored[B].value == b"key"
    assert f"secret not restored uuid={A}" in caplog.text


@pytest.mark.parametrize("call", range(1, 8))
def test_a_request_cut_short_by_the_loss_of_libvirt_is_undone_when_it_is_back(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, call: int
) -> None:
    secrets.register([info(A), info(B, "ovirt/b")], clear=False)
    before = libvirt.contents()
    wanted = [info(C), info(A, value=b"changed"), info(B, "ovirt/moved"), info(D, "ovirt/b")]
    calls = 0

    def lose(_call: str) -> None:
        nonlocal calls
        calls += 1
        libvirt.lost = libvirt.lost or calls == call

    libvirt.before_call = lose
    with pytest.raises(errors.LibvirtUnavailable):
        secrets.register(wanted, clear=False)
    # The connection broke, and libvirt itself went on: what was done is still there.
    libvirt.before_call, libvirt.lost = lambda _call: None, False
    secrets.restore(libvirt.session())  # type: ignore[arg-type]
    assert libvirt.contents() == before
    assert {secret.uuid for secret in secrets.registered()} == {A, B}


def test_unregister_removes_and_forgets_and_skips_unknown_ones(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, removed: list[set[UUID]]
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    secrets.unregister([A, C])
    assert set(libvirt.stored) == {B}
    assert A in removed[0]
    with pytest.raises(errors.NoSuchSecret):
        secrets.key(A)


def test_unregister_removes_nothing_when_one_is_foreign(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A)], clear=False)
    foreign(libvirt, B, "elsewhere", persistent=True)
    with pytest.raises(errors.ForeignSecretKept):
        secrets.unregister([A, B])
    assert set(libvirt.stored) == {A, B}


def test_a_refused_unregistration_keeps_the_key(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, removed: list[set[UUID]]
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    libvirt.refuse_removal = {B}
    with pytest.raises(errors.SecretUnregistrationFailed):
        secrets.unregister([A, B])
    assert removed == [{A}]
    assert secrets.key(B) == Sensitive(b"key")


def test_clear_forgets_the_keys_even_if_libvirt_is_away(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A)], clear=False)
    libvirt.lost = True
    with pytest.raises(errors.LibvirtUnavailable):
        secrets.clear()
    libvirt.restart()
    secrets.restore(libvirt.session())  # type: ignore[arg-type]
    assert libvirt.contents() == {}


def test_clear_leaves_foreign_secrets_and_goes_on_after_a_failure(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    foreign(libvirt, C, "ovirt/x", persistent=True)
    libvirt.refuse_removal = {A}
    secrets.clear()
    assert set(libvirt.stored) == {A, C}


def test_the_list_tells_everything_but_the_value(secrets: Secrets) -> None:
    secrets.register([info(A, text="the vms"), info(B), info(C, value=b"else")], clear=False)
    first, second, third = secrets.registered()
    assert (first.uuid, first.usage_id, first.description) == (A, "ovirt/1", "the vms")
    assert first.fingerprint == second.fingerprint != third.fingerprint
    assert "key" not in repr(secrets.registered())


# --- what is told of them ---


def test_what_happens_to_secrets_is_told_without_their_values(
    secrets: Secrets, told: Heard
) -> None:
    secrets.register([info(A), info(B, value=b"a key")], clear=False)
    secrets.register([info(B)], clear=True)
    secrets.unregister([B, C])
    secrets.unregister([B])
    assert told.events == [
        SecretsRegistered([A, B]),
        SecretsRegistered([B]),
        SecretsUnregistered([A]),
        SecretsUnregistered([B]),
    ]


def test_a_request_that_is_refused_tells_nothing(secrets: Secrets, told: Heard) -> None:
    with pytest.raises(errors.BadSecretRequest):
        secrets.register([info(A, "elsewhere")], clear=True)
    secrets.register([], clear=False)
    assert told.events == []


def test_secrets_that_libvirt_forgot_are_told_as_lost_and_as_restored(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, told: Heard
) -> None:
    secrets.register([info(A), info(B)], clear=False)
    libvirt.restart()
    libvirt.refuse_value = {B}
    secrets.restore(libvirt.session())  # type: ignore[arg-type]
    assert told.events[1:] == [SecretsLost([A, B]), SecretsRestored([A], [B])]


def test_a_libvirt_that_kept_the_secrets_lost_none(
    secrets: Secrets, libvirt: FakeLibvirtSecrets, told: Heard
) -> None:
    secrets.register([info(A)], clear=False)
    secrets.restore(libvirt.session())  # type: ignore[arg-type]
    assert told.names() == ["secrets_registered"]


def test_secrets_that_go_with_the_daemon_are_told(secrets: Secrets, told: Heard) -> None:
    secrets.clear()
    secrets.register([info(A)], clear=False)
    secrets.clear()
    assert told.events[1:] == [SecretsUnregistered([A])]


def test_those_of_the_configuration_are_spared_when_all_others_are_to_go(
    secrets: Secrets, libvirt: FakeLibvirtSecrets
) -> None:
    secrets.register_configured([info(A)])
    secrets.register([info(B)], clear=False)
    secrets.register([info(C)], clear=True)
    assert set(libvirt.stored) == {A, C}
    secrets.unregister([A])
    assert set(libvirt.stored) == {C}
    secrets.register_configured([info(A)])
    secrets.clear()
    assert libvirt.stored == {}
