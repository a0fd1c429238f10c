"""What stops the daemon before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtceph import config, daemon


@pytest.fixture
def active_vdsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link that systemd keeps for an active unit."""
    link = tmp_path / "invocation:vdsmd.service"
    link.symlink_to("0123456789abcdef")
    monkeypatch.setattr(daemon, "_VDSM_ACTIVE", link)


@pytest.mark.usefixtures("active_vdsm")
def test_beside_an_active_vdsmd_the_same_prefix_is_refused() -> None:
    with pytest.raises(daemon.StartError, match="usage_prefix"):
        daemon._serve(config.Config(), None)


@pytest.mark.usefixtures("active_vdsm")
def test_beside_an_active_vdsmd_a_prefix_of_its_own_is_taken() -> None:
    settings = config.parse({"secrets": {"usage_prefix": "virtceph/"}})
    daemon._refuse_beside_vdsm(settings)


@pytest.mark.usefixtures("active_vdsm")
def test_beside_an_active_vdsmd_its_port_is_refused_and_another_one_is_taken() -> None:
    secrets = {"usage_prefix": "virtceph/"}
    settings = config.parse({"secrets": secrets, "stomp": {"enabled": True}})
    with pytest.raises(daemon.StartError, match="the port 54321"):
        daemon._refuse_beside_vdsm(settings)
    other = config.parse({"secrets": secrets, "stomp": {"enabled": True, "port": 54322}})
    daemon._refuse_beside_vdsm(other)


def test_without_vdsmd_the_usual_prefix_is_taken() -> None:
    daemon._refuse_beside_vdsm(config.Config())


def test_the_example_configuration_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.main(["--print-config"]) == 0
    assert capsys.readouterr().out == config.example()
