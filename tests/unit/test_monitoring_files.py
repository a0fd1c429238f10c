"""The dashboard, the alert rules and the pages on them speak of metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from virtceph.host.metricpage import RENEW, main, metrics_page
from virtceph.host.metricspecs import METRICS

TOP = Path(__file__).parents[2]
DASHBOARD = TOP / "contrib/grafana/virtceph.json"
RULES = TOP / "contrib/prometheus/virtceph.rules.yml"
RULE_TESTS = TOP / "contrib/prometheus/virtceph.rules.test.yml"
_OF_THE_PROCESS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "up",
}


def shown() -> dict[str, set[str]]:
    """Each name that a reader meets, with the labels that it has."""
    found: dict[str, set[str]] = {}
    for spec in METRICS:
        labels = set(spec.labels)
        if spec.kind == "histogram":
            found |= {f"{spec.shown}_{end}": labels for end in ("count", "sum")}
            found[f"{spec.shown}_bucket"] = labels | {"le"}
        else:
            found[spec.shown] = labels
    return found


SHOWN = shown()
_OF_TARGETS = {"instance", "job"}


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of an expression, each with the labels that are asked of it."""
    for name, inside in re.findall(
        r"\b(virtceph_\w+|process_\w+|up)\b(?:\{([^}]*)\})?", expression
    ):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))


def check(expression: str) -> None:
    for name, labels in used(expression):
        if name in _OF_THE_PROCESS:
            continue
        assert name in SHOWN, f"{name} in {expression}"
        assert labels <= SHOWN[name] | _OF_TARGETS, f"{labels} of {name}"
    names = [name for name, _ in used(expression)]
    known = set().union(*(SHOWN.get(name, set()) for name in names)) | _OF_TARGETS
    for inside in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in inside.split(",")} <= known, expression


def test_every_metric_of_the_dashboard_exists_with_its_labels() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    targets = [target for panel in panels for target in panel.get("targets", ())]
    assert len(targets) > 30
    for target in targets:
        check(target["expr"])
        legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        names = [name for name, _ in used(target["expr"])]
        known = set().union(*(SHOWN.get(name, set()) for name in names)) | _OF_TARGETS
        assert legend <= known, target


def test_the_dashboard_shows_every_metric() -> None:
    text = DASHBOARD.read_text()
    missing = [s.shown for s in METRICS if s.shown not in text and s.short != "lane_slots"]
    assert missing == []


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def rules() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def test_every_metric_of_the_rules_exists_with_its_labels() -> None:
    for rule in rules():
        check(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_rule_has_a_test_that_sees_it_fire() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules()}


def test_every_rule_is_explained() -> None:
    page = (TOP / "docs/monitoring.md").read_text()
    missing = [rule["alert"] for rule in rules() if rule["alert"] not in page]
    assert missing == []


def test_the_page_of_metrics_is_fresh() -> None:
    fresh = (TOP / "docs/metrics.md").read_text() == metrics_page()
    assert fresh, f"docs/metrics.md is stale; renew it: {RENEW}"


def test_the_command_says_how_it_is_used(capsys: Any) -> None:
    assert main([]) == 2
    assert RENEW in capsys.readouterr().err
