"""Guests restored from a saved template: running in 1 s where a boot under TCG takes 5 s."""

import copy
import hashlib
import logging
import os
import shutil
import struct
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from tests.lab.domain_xml import (
    ACK_CHANNEL,
    AGENT_CHANNEL,
    CONTROL_CHANNEL,
    FileDisk,
    GuestPaths,
    GuestSpec,
    disk_source,
    domain_xml,
)
from tests.lab.errors import LabError
from tests.lab.guest import Guest, boot
from tests.lab.guest_build import guest_files
from tests.lab.state import cache_folder, keep_fresh, one_at_a_time

log = logging.getLogger(__name__)

# libvirt's virQEMUSaveHeader: magic, version, length of XML and cookie with their padding,
# was_running, compressed, offset of the cookie, and 14 unused words.
HEADER = struct.Struct("<16s5I56x")
MAGIC = b"LibvirtQemudSave"
TEMPLATE_DISK_BYTES = 1 << 20


def run_guest(connection: libvirt.virConnect, spec: GuestSpec, folder: Path) -> Guest:
    """A guest with its disks mounted and its agent ready, the fast way if there is one. Blocks.

    Restores the template (1 s), making it first if the cache has none (10 s); boots (5 s) if no
    template can be made.
    """
    try:
        return restore_guest(connection, spec, folder)
    except (libvirt.libvirtError, LabError) as problem:
        log.warning("no guest from the template, booting one: %s", problem)
    guest = boot(connection, spec, folder)
    guest.command("ping", timeout_s=60)
    if spec.agent_channel and spec.agent_program:
        guest.wait_for_agent()
    return guest


def restore_guest(connection: libvirt.virConnect, spec: GuestSpec, folder: Path) -> Guest:
    """A guest from the saved template, disks mounted and agent ready. Blocks, about 1 s.

    The secret of an RBD disk must exist. State after a failure: no domain.
    """
    template = _template(connection, spec)
    folder.mkdir(mode=0o755, exist_ok=True)
    paths = GuestPaths.under(folder, spec)
    with tempfile.NamedTemporaryFile(prefix="restore-", suffix=".save", dir=folder) as copied:
        shutil.copyfile(template, copied.name)
        rewrite(Path(copied.name), spec, paths)
        connection.restoreFlags(copied.name, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)
    guest = Guest(spec, paths, connection.lookupByUUIDString(str(spec.uuid)))
    try:
        _set_going(guest)
    except BaseException:
        guest.destroy()
        raise
    return guest


def _set_going(guest: Guest) -> None:
    if guest.spec.agent_channel and not guest.spec.agent_program:
        guest.command("agent-kill")
    guest.command("start" if guest.spec.writer else "start writer=0")
    if guest.spec.agent_channel and guest.spec.agent_program:
        guest.wait_for_agent()


def _template(connection: libvirt.virConnect, spec: GuestSpec) -> Path:
    """The saved guest of this spec's shape, made if the cache has none. Blocks."""
    folder = cache_folder("templates")
    work_disks = [FileDisk(Path("disk")) for _ in spec.disks]
    neutral = replace(
        spec, name="template", uuid=uuid.UUID(int=0), disks=work_disks, writer=True, hold=True
    )
    neutral = replace(neutral, agent_program=True)
    xml = domain_xml(neutral, guest_files(), GuestPaths.under(Path("/"), neutral))
    # Another libvirt or QEMU may restore differently: start anew with each version.
    versions = f"{connection.getLibVersion()} {connection.getVersion()}"
    key = hashlib.sha256(f"{versions} {guest_files().key} {xml}".encode()).hexdigest()[:16]
    saved = folder / f"{key}.save"
    with one_at_a_time("template"):
        if not saved.exists():
            with tempfile.TemporaryDirectory(prefix="make-", dir=folder) as work:
                _make(connection, neutral, Path(work), saved)
    keep_fresh(saved)
    return saved


def _make(connection: libvirt.virConnect, neutral: GuestSpec, work: Path, saved: Path) -> None:
    disks = [FileDisk(work / f"disk{index}") for index, _ in enumerate(neutral.disks)]
    for disk in disks:
        disk.path.touch()
        os.truncate(disk.path, TEMPLATE_DISK_BYTES)
    ident = uuid.uuid4()
    spec = replace(neutral, name=f"template-{ident.hex[:8]}", uuid=ident, disks=disks)
    guest = boot(connection, spec, work)
    try:
        guest.command("ping", timeout_s=60)
        if spec.agent_channel:
            guest.wait_for_agent()
        guest.domain.save(str(work / "saved"))
        (work / "saved").rename(saved)
    finally:
        guest.destroy()


def rewrite(path: Path, spec: GuestSpec, paths: GuestPaths) -> None:
    """Make a saved guest another one: name, UUID, disks and channels, in the file. Does not block.

    libvirt refuses a restore under another name or UUID, but trusts the XML within the file. Its
    padding (1 KiB at least) makes room for longer names.

    Raises:
        LabError: not a file saved by libvirt, or no room for the new XML.
    """
    with path.open("r+b") as file:
        magic, version, length, running, compressed, cookie_at = HEADER.unpack(
            file.read(HEADER.size)
        )
        if magic != MAGIC:
            raise LabError(f"{path.name} is no saved guest")
        data = file.read(length)
        xml = data[:cookie_at] if cookie_at else data
        cookie = data[cookie_at:].split(b"\0")[0] + b"\0" if cookie_at else b""
        domain = ElementTree.fromstring(xml.split(b"\0")[0])
        _become(domain, spec, paths)
        new_xml = ElementTree.tostring(domain) + b"\0"
        if len(new_xml) + len(cookie) > length:
            raise LabError("the saved guest has no room for the new XML")
        file.seek(0)
        new_cookie_at = len(new_xml) if cookie_at else 0
        file.write(HEADER.pack(magic, version, length, running, compressed, new_cookie_at))
        file.write((new_xml + cookie).ljust(length, b"\0"))


def _become(domain: Element, spec: GuestSpec, paths: GuestPaths) -> None:
    _find(domain, "name").text = spec.name
    _find(domain, "uuid").text = str(spec.uuid)
    for disk, element in zip(spec.disks, domain.iterfind("devices/disk"), strict=True):
        for tag in ("source", "auth", "backingStore"):
            for old in element.findall(tag):
                element.remove(old)
        element.set("type", "file" if isinstance(disk, FileDisk) else "network")
        driver = _find(element, "driver")
        driver.set("type", disk.format if isinstance(disk, FileDisk) else "raw")
        for position, part in enumerate(disk_source(disk)):
            element.insert(1 + position, copy.deepcopy(part))
    ends = {CONTROL_CHANNEL: paths.control, ACK_CHANNEL: paths.acks}
    for channel in domain.iterfind("devices/channel"):
        name = _find(channel, "target").get("name", "")
        if name == AGENT_CHANNEL:
            # libvirt makes a path from the domain's name if there is none.
            for source in channel.findall("source"):
                channel.remove(source)
        else:
            _find(channel, "source").set("path", str(ends[name]))
    for console in ("devices/serial", "devices/console"):
        for element in domain.iterfind(console):
            _find(element, "source").set("path", str(paths.console))


def _find(parent: Element, tag: str) -> Element:
    found = parent.find(tag)
    if found is None:
        raise LabError(f"the saved guest's <{parent.tag}> has no <{tag}>")
    return found
