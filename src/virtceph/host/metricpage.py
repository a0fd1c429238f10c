"""`docs/metrics.md`, from what is measured: `python -m virtceph.host.metricpage docs/`."""

from __future__ import annotations

import sys
from pathlib import Path

from virtceph.host.metricspecs import METRICS, MetricSpec
from virtceph.schema.markdown import renew, table

RENEW = "python -m virtceph.host.metricpage docs/"
_NAME = "metrics.md"
_HEAD = f"""\
<!-- Generated from host/metricspecs.py by `{RENEW}`. Do not edit. -->

# Metrics

`GET /metrics` in the text format of Prometheus: on the UNIX socket and, with `[http] enabled`, over mutual
TLS, for whoever has the level *monitor*; and without TLS where `[metrics] address` says so. What to make of
them is in [Monitoring](monitoring.md).

```yaml
scrape_configs:
  - job_name: virtceph
    static_configs:
      - targets: ["host1.example.com:9757"]   # [metrics] address = "…"
```

Series of a VM end when libvirt knows it no more, those of a storage domain when it is disconnected. No
metric is labelled with what a caller chooses freely, but for the names of storage domains.

"""
_TAIL = """
From the library, of the process itself: `process_cpu_seconds_total`, `process_resident_memory_bytes`,
`process_virtual_memory_bytes`, `process_start_time_seconds`, `process_open_fds`, `process_max_fds`.
"""


def metrics_page() -> str:
    """The text of the page."""
    rows = [(f"`{spec.shown}`", spec.kind, _labels(spec), spec.about) for spec in METRICS]
    buckets = [
        f"\nBuckets of `{spec.shown}`, in seconds: {', '.join(f'{b:g}' for b in spec.buckets)}.\n"
        for spec in METRICS
        if spec.buckets
    ]
    return _HEAD + table(("metric", "kind", "labels", ""), rows) + "".join(buckets) + _TAIL


def _labels(spec: MetricSpec) -> str:
    return ", ".join(f"`{label}`" for label in spec.labels)


def main(argv: list[str]) -> int:
    """Write the page if its text changed, and name it. Blocks."""
    if len(argv) != 1:
        print(f"usage: {RENEW}", file=sys.stderr)
        return 2
    renew(Path(argv[0]) / _NAME, metrics_page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
