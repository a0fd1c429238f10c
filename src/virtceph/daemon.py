"""virtcephd: put together, started, drained and stopped here."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from virtceph import __version__, config, systemd
from virtceph import log as logs
from virtceph.errors import VirtcephError
from virtceph.guarding import GuardKeeper
from virtceph.log import facts
from virtceph.process import (
    DAEMON_LOCK,
    StartError,
    forbid_core_dumps,
    forget_ceph_environment,
    give_memory_back,
    hold_lock,
    trace_crashes,
)
from virtceph.stompoptions import Stomp

if TYPE_CHECKING:
    from virtceph.assemble import Assembly
    from virtceph.servers import Servers

log = logging.getLogger("virtceph.daemon")

_PACKAGES = {
    "libvirt": "python3-libvirt (or libvirt-python from PyPI)",
    "libvirt_qemu": "python3-libvirt (or libvirt-python from PyPI)",
    "rados": "python3-rados",
    "rbd": "python3-rbd",
}
_LOCK_S = 0.5
# Jobs, thaws and secrets, after the requests: far longer than they take.
_LET_GO_S = 40.0
# systemd keeps this link for every unit that is active.
_VDSM_ACTIVE = Path("/run/systemd/units/invocation:vdsmd.service")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `virtcephd`. 0: stopped in order; 1: could not start; 2: wrong usage."""
    options = _parse(arguments)
    if options.print_config:
        sys.stdout.write(config.example())
        return 0
    # Before anything else holds a key or opens a cluster.
    forbid_core_dumps()
    trace_crashes()
    forget_ceph_environment()
    give_memory_back()
    try:
        settings = config.load_or_default(options.config)
        logs.set_up(settings.log.level, settings.log.target)
        if options.clear_secrets:
            _clear_secrets(settings)
            return 0
        return _serve(settings, options.config)
    except (StartError, config.ConfigError) as error:
        print(f"virtcephd: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(error.name or "")
        if package is None:
            raise
        print(f"virtcephd: no Python module {error.name}: install {package}", file=sys.stderr)
        return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="virtcephd", description="Host agent for KVM hosts whose VM disks live in Ceph RBD."
    )
    parser.add_argument("--version", action="version", version=f"virtcephd {__version__}")
    parser.add_argument(
        "--config", type=Path, help=f"configuration file (default: {config.DEFAULT_PATH}, if there)"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="write a commented example configuration"
    )
    parser.add_argument(
        "--clear-secrets",
        action="store_true",
        help="remove the daemon's secrets from libvirt and end; for the unit, after a crash",
    )
    return parser.parse_args(arguments)


def _refuse_beside_vdsm(settings: config.Config) -> None:
    if not _VDSM_ACTIVE.is_symlink():
        return
    if settings.secrets.usage_prefix == config.Secrets.usage_prefix:
        raise StartError(
            "vdsmd is active on this host and clears the same secrets: "
            "set another usage_prefix under [secrets]"
        )
    if settings.stomp.enabled and settings.stomp.port == Stomp.port:
        raise StartError(
            f"vdsmd is active on this host and has the port {Stomp.port}: "
            "set another port under [stomp]"
        )


def _clear_secrets(settings: config.Config) -> None:
    from virtceph.clearing import secrets_only

    try:
        with secrets_only(settings) as secrets:
            secrets.clear()
    except VirtcephError as error:
        raise StartError(str(error)) from error


def _be_the_only_one(runtime_dir: Path) -> None:
    """Two daemons with one runtime directory would take each other's leases for those of a crash."""
    try:
        runtime_dir.mkdir(mode=0o755, exist_ok=True)
        end_s = time.monotonic() + _LOCK_S
        while hold_lock(runtime_dir / DAEMON_LOCK) is None:
            # A guard that looks whether a daemon runs holds it for a moment.
            if time.monotonic() >= end_s:
                raise StartError(f"another daemon runs with {runtime_dir}")
            time.sleep(_LOCK_S / 10)
    except OSError as error:
        raise StartError(f"daemon.runtime_dir: {runtime_dir}: {error.strerror}") from error


def _serve(settings: config.Config, config_path: Path | None) -> int:
    import uvloop

    from virtceph.assemble import Assembly
    from virtceph.sockets import Sockets, tls_of

    _refuse_beside_vdsm(settings)
    _be_the_only_one(Path(settings.daemon.runtime_dir))
    sockets, tls = Sockets.of_systemd(settings), tls_of(settings)
    try:
        assembly = Assembly(settings)
    except VirtcephError as error:
        raise StartError(str(error)) from error
    try:
        sockets.open_missing(settings)
        guard = GuardKeeper(config_path)
        uvloop.run(_run(settings, assembly, assembly.servers(sockets, tls)))
        guard.stop()
    finally:
        # Secrets go last, when nobody can register another.
        assembly.close()
    return 0


async def _run(settings: config.Config, assembly: Assembly, servers: Servers) -> None:
    await servers.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, servers.reload)
    watchdog = asyncio.create_task(_feed_watchdog())
    systemd.notify("READY=1", "STATUS=serving")
    log.info("serving %s", _served(settings))
    await stop.wait()
    # The unit's time-out knows nothing of how long this is configured to take.
    longest_us = int((settings.daemon.drain_s + _LET_GO_S) * 1_000_000)
    systemd.notify("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={longest_us}")
    log.info("stopping %s", facts(requests=assembly.dispatcher.in_flight))
    # Listening to the end of it, for those who come to thaw.
    await assembly.drain(settings.daemon.drain_s)
    # So are those who listen to events, which tell of the guests that are thawed now.
    await loop.run_in_executor(None, assembly.let_go)
    watchdog.cancel()
    await servers.stop()


def _served(settings: config.Config) -> str:
    stomp, http, metrics = settings.stomp, settings.http, settings.metrics
    where = {}
    if stomp.enabled:
        where["stomp"] = f"{stomp.address} port {stomp.port}"
    if http.enabled:
        where["https"] = f"{http.address} port {http.port}"
    if metrics.address:
        where["metrics"] = f"{metrics.address} port {metrics.port}"
    return facts(version=__version__, socket=settings.http.socket, **where, pid=os.getpid())


async def _feed_watchdog() -> None:
    """Tell systemd that the loop turns; a loop that hangs is restarted by it."""
    interval_s = systemd.watchdog_interval_s()
    while interval_s is not None:
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)


def run() -> None:
    """Run `main` and end the process at once: a thread stuck in a dead libvirt or cluster, which
    cannot be ended, must not keep a stopped daemon from ending."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if threading.active_count() > 1:
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
