"""The files a one-node Ceph cluster starts from: configuration, keyring, monitor map."""

import base64
import os
import struct
import time
from pathlib import Path

from tests.lab.processes import run

MSGR2_PORT, MSGR1_PORT = 3300, 6789
STATIC_OPTIONS = {
    "ms bind ipv6": "false",
    "auth cluster required": "cephx",
    "auth service required": "cephx",
    "auth client required": "cephx",
    "auth allow insecure global id reclaim": "false",
    "mon warn on insecure global id reclaim allowed": "false",
    "osd pool default size": "1",
    "osd pool default min size": "1",
    "osd pool default pg num": "8",
    "osd pool default pg autoscale mode": "off",
    "mon allow pool size one": "true",
    "mon allow pool delete": "true",
    "osd crush chooseleaf type": "0",
    "osd class update on start": "false",
    "osd objectstore": "memstore",
    # An OSD without peers hears of a new map only when it asks, by default every 30 s: too late
    # for `resume_osd`, which marks it down and waits until it comes back.
    "osd mon heartbeat interval": "1",
    "osd heartbeat interval": "1",
    "memstore device bytes": str(8 << 30),
    "mon cluster log to file": "false",
    # No optional manager module: each costs seconds of CPU at the start.
    "mgr initial modules": "",
    # Statistics of a pool come by the manager's reports; 5 s would be long for a test.
    "mgr tick period": "1",
    "mgr stats period": "1",
}


def new_key() -> str:
    """A cephx key as `ceph-authtool --gen-key` makes it. Does not block."""
    header = struct.pack("<hiih", 1, int(time.time()), 0, 16)
    return base64.b64encode(header + os.urandom(16)).decode()


def configuration(folder: Path, fsid: str, address: str, propose_interval_s: float | None) -> str:
    """The text of ceph.conf. Does not block."""
    options = {
        "fsid": fsid,
        "mon host": f"[v2:{address}:{MSGR2_PORT}/0,v1:{address}:{MSGR1_PORT}/0]",
        "mon initial members": "a",
        "public addr": address,
        "cluster addr": address,
        **STATIC_OPTIONS,
        "mon data": f"{folder}/mon",
        "mgr data": f"{folder}/mgr",
        "osd data": f"{folder}/osd",
        "keyring": f"{folder}/keyring",
        "run dir": f"{folder}/run",
        "admin socket": f"{folder}/run/$name.$pid.asok",
        "log file": f"{folder}/log/$name.log",
    }
    if propose_interval_s is not None:
        # A default monitor waits 1 s before each proposal, so a snapshot costs 0.4-1.0 s.
        options["paxos propose interval"] = str(propose_interval_s)
        options["paxos min wait"] = str(propose_interval_s / 2)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())


def write_keyrings(folder: Path) -> None:
    """Write the keyring of monitor and admin, and one for each daemon, all 0600. Does not block."""
    keys = {name: new_key() for name in ("mon.", "client.admin", "mgr.x", "osd.0")}
    allow = "allow *"
    caps = {
        "mon.": {"mon": allow},
        "client.admin": {"mon": allow, "osd": allow, "mgr": allow},
        "mgr.x": {"mon": "allow profile mgr", "osd": allow},
        "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": allow},
    }
    # The monitor is made with every key, so no daemon has to be announced by a command later.
    text = ""
    for name, key in keys.items():
        text += f"[{name}]\n\tkey = {key}\n"
        text += "".join(f'\tcaps {service} = "{cap}"\n' for service, cap in caps[name].items())
    _write_private(folder / "keyring", text)
    _write_private(folder / "osd/keyring", f"[osd.0]\n\tkey = {keys['osd.0']}\n")
    _write_private(folder / "mgr/keyring", f"[mgr.x]\n\tkey = {keys['mgr.x']}\n")


def _write_private(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def write_monitor_map(path: Path, fsid: str, address: str) -> None:
    """Write the first monitor map. Blocks."""
    addresses = f"[v2:{address}:{MSGR2_PORT},v1:{address}:{MSGR1_PORT}]"
    run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, str(path)])
