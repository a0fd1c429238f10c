"""The alert rules and the metrics as Prometheus' own tool reads them."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.promtool import promtool
from tests.lab.state import PROJECT, free_port

RULES = PROJECT / "contrib/prometheus"


@pytest.fixture(scope="module")
def tool() -> Path:
    return promtool()


def run(tool: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [tool, *arguments], cwd=RULES, input=given, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "virtceph.rules.yml"), ("test", "rules", "virtceph.rules.test.yml")],
    ids=lambda arguments: arguments[0],
)
def test_the_alert_rules_are_right_and_each_fires_when_it_should(
    tool: Path, arguments: tuple[str, ...]
) -> None:
    done = run(tool, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_nothing_wrong_with_the_metrics(site: Site, vm: Guest, tool: Path) -> None:
    site.call("VM.freeze", vmID=vm.uuid, timeout=30)
    site.call("VM.thaw", vmID=vm.uuid)
    page = subprocess.run(
        ["curl", "-sf", "--unix-socket", site.daemon.socket, "http://localhost/metrics"],
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout
    assert b"virtceph_frozen_seconds_count" in page
    done = run(tool, "check", "metrics", given=page)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr


def test_a_scraper_without_a_certificate_gets_metrics_and_nothing_else(
    start_daemon: Callable[..., Daemon],
) -> None:
    port = free_port()
    overrides = {
        "metrics": {"address": "127.0.0.1", "port": port},
        "secrets": {"usage_prefix": "scraped/"},
    }
    daemon = start_daemon("daemon-scraped", overrides=overrides)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        assert b"virtceph_build_info" in page.read()
    for path in ("healthz", "events", "jsonrpc", "openrpc.json"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10)
        assert refused.value.code == 404
        refused.value.close()
    daemon.kill()
