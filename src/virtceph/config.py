"""What an operator may set, in one TOML file. Each option's comment stands here and nowhere else:
`virtcephd --print-config` writes the commented example from it."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

DEFAULT_PATH = Path("/etc/virtceph/virtcephd.toml")


class ConfigError(Exception):
    """The configuration is wrong: the option, and what was expected."""


def _option(default: Any, comment: str, **bounds: Any) -> Any:
    metadata = {"comment": comment, **bounds}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


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
    drain_s: float = _option(
        20.0, "How long requests under way may go on after SIGTERM.", minimum=0.0, maximum=600.0
    )


@dataclass(frozen=True)
class Http:
    socket: str = _option("/run/virtceph/virtcephd.sock", "The UNIX socket; mode 0660.")
    socket_group: str = _option(
        "virtceph", "The group whose members may call, beside root. Peer credentials are checked."
    )
    max_body_bytes: int = _option(
        4 * 1024 * 1024, "A larger request body is refused.", minimum=1024, maximum=1 << 30
    )
    max_connections: int = _option(
        256, "Connections at once; a further one is closed.", minimum=1, maximum=65536
    )


@dataclass(frozen=True)
class Libvirt:
    uri: str = _option("qemu:///system", "The libvirt to serve. It must be on this host.")
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
    libvirt: Libvirt = dataclasses.field(default_factory=Libvirt)
    freeze: Freeze = dataclasses.field(default_factory=Freeze)
    secrets: Secrets = dataclasses.field(default_factory=Secrets)
    ceph: Ceph = dataclasses.field(default_factory=Ceph)
    lanes: Lanes = dataclasses.field(default_factory=Lanes)
    log: Log = dataclasses.field(default_factory=Log)


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
    sections = {f.name: f for f in dataclasses.fields(Config)}
    _refuse_unknown(raw, sections, "")
    hints = get_type_hints(Config)
    return Config(
        **{name: _section(hints[name], values, f"{name}.") for name, values in raw.items()}
    )


def _section(cls: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"[{prefix[:-1]}]: expected a table")
    options = {f.name: f for f in dataclasses.fields(cls)}
    _refuse_unknown(values, options, prefix)
    hints = get_type_hints(cls)
    return cls(
        **{
            name: _value(hints[name], options[name].metadata, value, prefix + name)
            for name, value in values.items()
        }
    )


def _refuse_unknown(raw: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> None:
    for name in raw:
        if name not in known:
            raise ConfigError(f"{prefix}{name}: no such option; there are {', '.join(known)}")


def _value(hint: Any, rule: Mapping[str, Any], value: Any, name: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wanted = list if hint == list[str] else hint
    if not isinstance(value, wanted) or isinstance(value, bool) is not (hint is bool):
        raise ConfigError(f"{name}: expected {_type_name(hint)}")
    if hint == list[str] and not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{name}: expected {_type_name(hint)}")
    if "choices" in rule and value not in rule["choices"]:
        raise ConfigError(f"{name}: expected one of {', '.join(rule['choices'])}")
    low, high = rule.get("minimum"), rule.get("maximum")
    # Written so that nan, which TOML allows and which compares with nothing, is refused.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        raise ConfigError(f"{name}: expected {low:g} to {high:g}")
    return value


def _type_name(hint: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    return names.get(hint, "a list of text")


def example() -> str:
    """The commented example: every option with its default, out of force."""
    lines = [
        "# virtcephd.toml: what is commented out shows the default. An unknown key is an error."
    ]
    for section in dataclasses.fields(Config):
        lines += ["", f"[{section.name}]"]
        instance = getattr(Config(), section.name)
        for option in dataclasses.fields(instance):
            lines += [f"# {line}" for line in option.metadata["comment"].splitlines()]
            lines.append(f"#{option.name} = {_toml(getattr(instance, option.name))}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
