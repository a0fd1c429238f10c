"""Between the persistent secret and the ephemeral one, whatever fails, the key is not lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.fakes import seen_host as seen
from virtceph.doctor.adopting import (
    Adoptable,
    AdoptionFailed,
    AdoptionRefused,
    Claim,
    adoptable,
    swap,
)
from virtceph.doctor.keeping import InFile, KeepingFailed
from virtceph.errors import LibvirtFailed
from virtceph.sensitive import Sensitive
from virtceph.virt.inspection import SecretSeen, VMSeen

KEY = Sensitive(b"k" * 28)
PERSISTENT = seen.secret(ephemeral=False, private=False, xml="<persistent/>")


@dataclass
class FakeLibvirt:
    """One secret, by its XML. `refuses` are the calls that fail."""

    secret: SecretSeen | None = PERSISTENT
    disks: list[VMSeen] = field(default_factory=lambda: [seen.vm()])
    refuses: set[str] = field(default_factory=set)
    defined: str | None = "<persistent/>"
    value: Sensitive | None = KEY

    def vms(self) -> list[VMSeen]:
        return self.disks

    def secrets(self) -> list[SecretSeen]:
        return [] if self.secret is None else [self.secret]

    def secret_value(self, uuid: UUID) -> Sensitive:
        self._may("read")
        return KEY

    def define_secret(self, xml: str, value: Sensitive) -> None:
        self._may("define")
        self.defined, self.value = xml, value

    def undefine_secret(self, uuid: UUID) -> None:
        self._may("undefine")
        self.defined = self.value = None

    def _may(self, what: str) -> None:
        if what in self.refuses:
            raise LibvirtFailed(what, 1, "refused")


ADOPTABLE = Adoptable(PERSISTENT, KEY, (Claim("web", (seen.V1,)),))


@pytest.mark.parametrize(
    "failure", [LibvirtFailed("x", 1, "no"), OSError("gone"), KeyboardInterrupt()]
)
def test_when_the_registration_fails_the_persistent_secret_is_there_again(
    failure: BaseException,
) -> None:
    libvirt = FakeLibvirt()

    def register() -> None:
        assert libvirt.defined is None
        raise failure

    with pytest.raises(AdoptionFailed, match="is there again"):
        swap(libvirt, ADOPTABLE, register)
    assert (libvirt.defined, libvirt.value) == ("<persistent/>", KEY)


def test_when_it_cannot_be_put_back_that_is_said() -> None:
    libvirt = FakeLibvirt(refuses={"define"})

    def register() -> None:
        raise OSError("gone")

    with pytest.raises(
        AdoptionFailed, match="gone; and the persistent secret could not be put back"
    ):
        swap(libvirt, ADOPTABLE, register)


def test_when_it_cannot_be_removed_nothing_is_registered() -> None:
    with pytest.raises(AdoptionFailed, match="as it was"):
        swap(FakeLibvirt(refuses={"undefine"}), ADOPTABLE, lambda: pytest.fail("registered"))


@pytest.mark.parametrize(
    ("libvirt", "why"),
    [
        (FakeLibvirt(secret=None), "no such secret"),
        (FakeLibvirt(secret=seen.secret()), "ephemeral already"),
        (FakeLibvirt(secret=replace(PERSISTENT, usage_type="iscsi")), "type 'iscsi'"),
        (FakeLibvirt(disks=[]), "--user and --monitors"),
        (FakeLibvirt(refuses={"read"}), "cannot be read"),
        (FakeLibvirt(secret=replace(PERSISTENT, private=True)), "it is private"),
        (
            FakeLibvirt(disks=[seen.vm(accesses=(seen.access(secret="ovirt/web"),))]),
            "by its usage",
        ),
    ],
)
def test_what_cannot_be_adopted_is_refused_with_the_reason(libvirt: FakeLibvirt, why: str) -> None:
    with pytest.raises(AdoptionRefused, match=why):
        adoptable(libvirt, seen.SECRET, Path("/nonexistent"), None)


def test_whose_key_it_is_is_told_by_the_vms_that_name_it() -> None:
    vms = [
        seen.vm(accesses=(seen.access(), seen.access("vdb", pool="fast"))),
        seen.vm("b", accesses=(seen.access(monitors=("10.0.0.2:6789",)),)),
    ]
    (claim,) = adoptable(FakeLibvirt(disks=vms), seen.SECRET, Path("/"), None).claims
    assert (claim.user, claim.monitors) == ("web", (seen.V1, "10.0.0.2:6789"))
    assert [str(pool) for pool in claim.pools] == ["rbd", "fast"]


def test_a_file_with_the_same_key_will_do_and_is_not_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY.reveal_base64() + "\n")
    keeping = InFile(path)
    keeping.keep(KEY)
    keeping.take_back()
    assert path.exists()
    with pytest.raises(KeepingFailed, match="something else"):
        InFile(path).keep(Sensitive(b"other"))
