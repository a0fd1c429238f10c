"""What an operator may set, in one TOML file. Each option's comment stands here and nowhere else:
`virtcephd --print-config` writes the commented example from it."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from virtceph.httpoptions import Events, Http, Metrics
from virtceph.option import option as _option
from virtceph.optionfile import ConfigError as ConfigError
from virtceph.optionfile import commented, refuse_unknown, section, sections
from virtceph.siteoptions import Secret, StorageDomain
from virtceph.stompoptions import Stomp

DEFAULT_PATH = Path("/etc/virtceph/virtcephd.toml")


@dataclass(frozen=True)
class Daemon:
    state_dir: str = _option(
        "/var/lib/virtceph",
        "Records that outlive a restart. Owned by the daemon's user, mode 0700.",
    )
    runtime_dir: str = _option("/run/virtceph", "Sockets. systemd makes it; a reboot may empty it.")
    exchange_dirs: list[str] = _option(
        ["/var/lib/virtceph/exchange"],
        "The only folders in which a verb reads or writes a file that its caller names.\n"
        "Each is owned by the daemon's user or root and writable by nobody else, so that no link can be\n"
        "put in the way of libvirt, which follows links as root.",
    )
    block_devices: list[str] = _option(
        [],
        "Block devices that exports may write to and imports read from, by their full paths. The daemon's\n"
        "user needs the right to open them.",
    )
    drain_s: float = _option(
        20.0, "How long requests under way may go on after SIGTERM.", minimum=0.0, maximum=600.0
    )


@dataclass(frozen=True)
class Access:
    admins: list[str] = _option(
        ["user:root", "group:virtceph"],
        "Who may do everything. Each is user:NAME or user:UID, group:NAME or group:GID (on the socket),\n"
        'cert:CN=NAME (more of the subject as in "cert:CN=engine,O=Example"), or cert:* for whoever has a\n'
        "certificate of the configured authority. Whoever is in none of the lists gets nothing. plain:* is\n"
        "whoever connects where [stomp] has no TLS.",
    )
    operators: list[str] = _option(
        [],
        "Who may act on VMs and volumes, and see what there is: not on keys and storage domains.",
    )
    monitors: list[str] = _option([], "Who may see what there is, and change nothing.")


@dataclass(frozen=True)
class Audit:
    file: str = _option(
        "", "Where the audit trail is written, one JSON object a line; empty: to the log."
    )
    level: str = _option(
        "operator",
        "Verbs of this level and above are told: monitor (all), operator, or admin. Refusals always are.",
        choices=("monitor", "operator", "admin"),
    )


@dataclass(frozen=True)
class Libvirt:
    uri: str = _option("qemu:///system", "The libvirt to serve. It must be on this host.")
    secret_uri: str = _option(
        "",
        "Where libvirt keeps secrets, if that is a process of its own, as virtsecretd is: it is watched by\n"
        "itself then. Empty: secret:///system beside qemu:///system, else the same as uri.",
    )
    autostart: bool = _option(
        True,
        "Start VMs that libvirt was to start by itself at boot and could not, because a key of a [[secret]]\n"
        "was not there yet. Each is started once per boot.",
    )
    connect_timeout_s: float = _option(
        10.0, "How long the start waits for libvirt before it fails.", minimum=0.1, maximum=600.0
    )
    agent_timeout_s: float = _option(
        10.0,
        "How long a guest agent may take to answer anything but a freeze or thaw.\n"
        "libvirt's own default is for ever.",
        minimum=1.0,
        maximum=60.0,
    )


@dataclass(frozen=True)
class Freeze:
    max_lease_s: float = _option(
        600.0, "The longest time a caller may have a guest frozen.", minimum=1.0, maximum=600.0
    )
    unknown: str = _option(
        "report",
        "What to do with guests that are found frozen at the start although no lease of ours is open:\n"
        "report (log it), thaw, or ignore (do not look). Looking asks each guest agent once which file\n"
        "systems it has. A guest that arrives frozen from another host is thawed, unless this is ignore.",
        choices=("report", "thaw", "ignore"),
    )


@dataclass(frozen=True)
class Secrets:
    usage_prefix: str = _option(
        "ovirt/",
        "Usage ids that begin so are this daemon's: it clears them at start and stop, and refuses others.\n"
        "On a host with vdsmd active choose another one: both would clear the same secrets.",
    )


@dataclass(frozen=True)
class Ceph:
    op_timeout_s: float = _option(
        5.0,
        "rados_mon_op_timeout, rados_osd_op_timeout and client_mount_timeout of the control connections.\n"
        "Without them librados waits for ever.",
        minimum=1.0,
        maximum=60.0,
    )
    snapshot_timeout_s: float = _option(
        12.0,
        "When a snapshot request is given up. librbd would break the lock of a stalled VM after about\n"
        "30 s and cut it off from its disk, so 20 s is the most that is taken.",
        minimum=1.0,
        maximum=20.0,
    )
    stall_timeout_s: float = _option(
        60.0,
        "When a job that moves data is given up because nothing moves any more. How long it takes in all\n"
        "is not bounded.",
        minimum=2.0,
        maximum=3600.0,
    )
    probe_interval_s: float = _option(
        10.0,
        "How often each storage domain's monitors and an OSD are asked whether they answer. How much room\n"
        "its pool has is asked every sixth time.",
        minimum=0.5,
        maximum=3600.0,
    )
    nearly_full_percent: float = _option(
        85.0, "From when on a pool is told to be nearly full.", minimum=1.0, maximum=99.0
    )
    workers: int = _option(
        2, "Worker processes kept ready for each storage domain.", minimum=1, maximum=16
    )


@dataclass(frozen=True)
class Lanes:
    libvirt: int = _option(8, "Calls to libvirt at once.", minimum=1, maximum=64)
    agent: int = _option(
        12,
        "Guest agent calls at once. Hung ones occupy libvirtd's own workers: 24 starve it.",
        minimum=1,
        maximum=16,
    )
    disk: int = _option(
        8, "Disks plugged, unplugged and resized at once, one of each VM.", minimum=1, maximum=64
    )
    ceph: int = _option(16, "Calls to Ceph at once, in all.", minimum=1, maximum=128)
    ceph_per_cluster: int = _option(
        6, "Calls to one cluster at once: a dead one cannot take all slots.", minimum=1, maximum=128
    )
    rescue: int = _option(16, "Thaws and aborts at once.", minimum=1, maximum=64)
    queue: int = _option(64, "How many requests may wait in each lane.", minimum=0, maximum=10000)


@dataclass(frozen=True)
class Log:
    level: str = _option(
        "info", "debug, info, warning or error.", choices=("debug", "info", "warning", "error")
    )
    target: str = _option(
        "auto",
        "journal (stderr with priorities), stderr (with times), or auto: journal under systemd.",
        choices=("auto", "journal", "stderr"),
    )


@dataclass(frozen=True)
class Config:
    daemon: Daemon = dataclasses.field(default_factory=Daemon)
    http: Http = dataclasses.field(default_factory=Http)
    stomp: Stomp = dataclasses.field(default_factory=Stomp)
    events: Events = dataclasses.field(default_factory=Events)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    access: Access = dataclasses.field(default_factory=Access)
    audit: Audit = dataclasses.field(default_factory=Audit)
    libvirt: Libvirt = dataclasses.field(default_factory=Libvirt)
    freeze: Freeze = dataclasses.field(default_factory=Freeze)
    secrets: Secrets = dataclasses.field(default_factory=Secrets)
    ceph: Ceph = dataclasses.field(default_factory=Ceph)
    lanes: Lanes = dataclasses.field(default_factory=Lanes)
    log: Log = dataclasses.field(default_factory=Log)
    secret: list[Secret] = dataclasses.field(default_factory=list)
    storage_domain: list[StorageDomain] = dataclasses.field(default_factory=list)


def load(path: Path) -> Config:
    """Read a configuration file. Blocks on the file.

    Raises:
        ConfigError: unreadable, no TOML, an unknown option, or an impossible value.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse(raw)


def load_or_default(path: Path | None) -> Config:
    """The file that was named, else the one at its usual place, else the defaults. Raises ConfigError."""
    if path is not None:
        return load(path)
    return load(DEFAULT_PATH) if DEFAULT_PATH.exists() else Config()


def parse(raw: Mapping[str, Any]) -> Config:
    """Build a Config from parsed TOML; what is absent keeps its default. Raises ConfigError."""
    refuse_unknown(raw, {f.name: f for f in dataclasses.fields(Config)}, "")
    hints = get_type_hints(Config)
    read: dict[str, Any] = {}
    for name, values in raw.items():
        item = _item_class(hints[name])
        read[name] = (
            section(hints[name], values, f"{name}.")
            if item is None
            else sections(item, values, name)
        )
    return Config(**read)


def example() -> str:
    """The commented example: every option with its default, out of force."""
    lines = [
        "# virtcephd.toml: what is commented out shows the default. An unknown key is an error."
    ]
    hints = get_type_hints(Config)
    for name in (field.name for field in dataclasses.fields(Config)):
        item = _item_class(hints[name])
        lines += ["", f"#[[{name}]]" if item else f"[{name}]", *commented(item or hints[name])]
    return "\n".join(lines) + "\n"


def _item_class(hint: Any) -> Any:
    """The dataclass of an array's tables; None where there is one table."""
    return next(iter(get_args(hint)), None)
