"""Runs `virtceph doctor` on the lab's libvirt, and makes what it is to find."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import libvirt

from tests.lab.daemon import ENTER
from tests.lab.domain_xml import Disk, disk_element
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.state import PROJECT

NO_CONF = "/nonexistent/ceph.conf"


@dataclass(frozen=True)
class Examined:
    """What `virtceph doctor --json` answered, and its exit code."""

    answer: dict[str, Any]
    exit_code: int

    def codes(self, subject: str) -> set[str]:
        """What was found of a subject."""
        return {f["code"] for f in self.answer["findings"] if f["subject"] == subject}

    def finding(self, code: str, subject: str) -> dict[str, Any]:
        """The one finding of a code and a subject."""
        found = [
            f for f in self.answer["findings"] if f["code"] == code and f["subject"] == subject
        ]
        assert len(found) == 1, (code, subject, self.answer["findings"])
        return dict(found[0])

    def vm(self, name: str) -> dict[str, Any]:
        """A VM's row."""
        return dict(next(row for row in self.answer["vms"] if row["name"] == name))

    def user(self, name: str) -> dict[str, Any]:
        """A user's row."""
        return dict(next(row for row in self.answer["users"] if row["user"] == name))


PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def virtceph(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, with no terminal."""
    argv = [sys.executable, "-m", "virtceph.cli", *words]
    environment = {"PATH": PATH, "PYTHONPATH": str(PROJECT / "src")}
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=120, input="", check=False
    )


def virtceph_as(
    user: str, group: str, lab_state: Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as another user, in a mount namespace where he can reach the project."""
    code = lab_state / "code"
    code.mkdir(mode=0o755, exist_ok=True)
    enter = ["unshare", "--mount", "sh", "-c", ENTER, "enter", str(PROJECT), str(code)]
    drop = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups"]
    python = PROJECT / ".venv/bin/python"
    interpreter = str(code / ".venv/bin/python") if python.exists() else sys.executable
    variables = {"PATH": PATH, "PYTHONPATH": f"{code}/src", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*enter, *drop, interpreter, "-m", "virtceph.cli", *words],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        input="",
        check=False,
    )


def doctor_words(libvirtd: PrivateLibvirtd, conf: Path | str = NO_CONF) -> list[str]:
    """The words that make the doctor look at the lab."""
    where = ["--connect", libvirtd.uri, "--libvirt-dir", str(libvirtd.folder / "etc")]
    return ["doctor", *where, "--ceph-conf", str(conf), "--socket", "/nonexistent/virtcephd.sock"]


def examine(libvirtd: PrivateLibvirtd, conf: Path | str = NO_CONF) -> Examined:
    """Have the doctor look at the lab."""
    done = virtceph(*doctor_words(libvirtd, conf), "--json")
    assert done.stderr == ""
    return Examined(json.loads(done.stdout), done.returncode)


def define_secret(
    connection: libvirt.virConnect, key: str, *, ephemeral: bool = True, private: bool = False
) -> UUID:
    """A secret as an administrator would define it by hand."""
    ident = uuid.uuid4()
    words = {True: "yes", False: "no"}
    secret = Element("secret", ephemeral=words[ephemeral], private=words[private])
    SubElement(secret, "uuid").text = str(ident)
    SubElement(SubElement(secret, "usage", type="ceph"), "name").text = f"by hand {ident}"
    connection.secretDefineXML(ElementTree.tostring(secret, encoding="unicode")).setValue(
        base64.b64decode(key)
    )
    return ident


def define_vm(connection: libvirt.virConnect, name: str, *disks: Disk) -> libvirt.virDomain:
    """A VM that is off, with these disks and without an agent's channel."""
    domain = Element("domain", type="qemu")
    SubElement(domain, "name").text = name
    SubElement(domain, "memory", unit="MiB").text = "64"
    SubElement(SubElement(domain, "os"), "type", arch="x86_64", machine="q35").text = "hvm"
    devices = SubElement(domain, "devices")
    for index, disk in enumerate(disks):
        devices.append(disk_element(disk, f"vd{'abcd'[index]}"))
    return connection.defineXML(ElementTree.tostring(domain, encoding="unicode"))
