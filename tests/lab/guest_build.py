"""The guest's kernel and initramfs, made from the distribution's packages and kept in the cache."""

import hashlib
import json
import lzma
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.kernel_image import extract_kernel
from tests.lab.packages import versions
from tests.lab.processes import run
from tests.lab.state import cache_folder, keep_fresh, one_at_a_time

INIT = Path(__file__).with_name("guest_init.sh")
WINDOWS_AGENT = Path(__file__).with_name("windows_agent.sh")
# In the order they must be loaded; virtio_blk comes last, when the disks may be looked at.
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
)
APPLETS = (
    "sh cat chmod cp cut date dd df echo false fsfreeze grep head hexdump insmod kill ln ls mkdir mkfifo"
    " mount mv od printf ps rm sed seq sleep stat sync tail test timeout touch tr true umount uname usleep wc"
)
PROGRAMS = ("/sbin/mkfs.ext4", "/sbin/e2fsck")
KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
AGENT_PACKAGE = "qemu-guest-agent"


@dataclass(frozen=True)
class GuestFiles:
    """What a guest boots from. `key` names the recipe and the packages they were made with."""

    kernel: Path
    initramfs: Path
    key: str


def guest_files() -> GuestFiles:
    """Kernel and initramfs from the cache, made if absent. Blocks: nothing, or some 5 s.

    The kernel and the agent stay as first downloaded until the recipe or an installed package
    changes; delete the cache folder to renew them.
    """
    key = _key()
    folder = cache_folder(f"guest-{key}")
    files = GuestFiles(folder / "vmlinux", folder / "initramfs.cpio", key)
    with one_at_a_time("guest"):
        if not files.initramfs.exists():
            with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as name:
                _build(Path(name), files)
    keep_fresh(folder)
    return files


def _key() -> str:
    parts = [path.read_bytes() for path in (INIT, WINDOWS_AGENT, Path(__file__))]
    parts.append(json.dumps(versions(["busybox-static", "e2fsprogs", "libc6"])).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _build(work: Path, files: GuestFiles) -> None:
    unpacked = work / "unpacked"
    for package in (_kernel_package(), AGENT_PACKAGE):
        download_and_unpack(package, work, unpacked)
    image = next((unpacked / "boot").glob("vmlinuz-*"))
    root = work / "root"
    _fill_root(root, unpacked)
    run(["sh", "-c", 'cd "$1" && find . | cpio --quiet -o -H newc >../cpio', "_", str(root)])
    (work / "vmlinux").write_bytes(extract_kernel(image.read_bytes()))
    (work / "vmlinux").rename(files.kernel)
    # Last: its presence says that all is there.
    (work / "cpio").rename(files.initramfs)


def _kernel_package() -> str:
    output = run(["apt-cache", "depends", KERNEL_METAPACKAGE])
    found = re.search(r"Depends: (linux-image-\S+)", output)
    if found is None:
        raise LabError(f"{KERNEL_METAPACKAGE} is unknown: run `apt-get update`")
    return found[1]


def download_and_unpack(package: str, work: Path, target: Path) -> None:
    """The files of a Debian package, without installing it, in `target`. Blocks on the network."""
    folder = work / package
    folder.mkdir()
    # As root, apt wants to download as user _apt, which cannot write here, and would warn.
    run(
        ["apt-get", "-o", "APT::Sandbox::User=root", "download", package], cwd=folder, timeout_s=600
    )
    for archive in folder.glob("*.deb"):
        run(["dpkg-deb", "-x", str(archive), str(target)])


def _fill_root(root: Path, unpacked: Path) -> None:
    for name in ("bin", "sbin", "etc", "dev", "proc", "sys", "run", "lib/modules"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in APPLETS.split():
        (root / "bin" / applet).symlink_to("busybox")
    shutil.copy(INIT, root / "init")
    (root / "init").chmod(0o755)
    shutil.copy(WINDOWS_AGENT, root / "bin/windows-agent")
    (root / "bin/windows-agent").chmod(0o755)
    for module in MODULES:
        _copy_module(module, unpacked, root / "lib/modules")
    agent = next(unpacked.glob("**/sbin/qemu-ga"), None) or next(unpacked.glob("**/bin/qemu-ga"))
    for program in (agent, *map(Path, PROGRAMS)):
        shutil.copy(program, root / "sbin" / program.name)
        for library in _libraries(program):
            target = root / library.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)


def _copy_module(name: str, unpacked: Path, target: Path) -> None:
    path = next(unpacked.glob(f"**/{name}.ko*"), None)
    if path is None:
        # A kernel may have it built in.
        if any(f"/{name}.ko\n" in file.read_text() for file in unpacked.glob("**/modules.builtin")):
            return
        raise LabError(f"the guest's kernel package has no module {name}")
    data = path.read_bytes()
    (target / f"{name}.ko").write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)


def _libraries(program: Path) -> list[Path]:
    output = run(["ldd", str(program)])
    if "not found" in output:
        raise LabError(f"a library of {program.name} is not installed:\n{output}")
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", output)]
