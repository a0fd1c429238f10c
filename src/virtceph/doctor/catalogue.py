"""Everything that may be found, by its code: how grave it is, the sentence, and what to do about it.

`docs/doctor.md` has the same table; a test compares both. Codes are for scripts and do not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How grave a finding is. A warning is what works today and fails on a worse day, or works less well than
    it could; critical is what fails now."""

    OK = 0
    NOTE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """`ok`, `note`, `warning` or `critical`."""
        return self.name.lower()


@dataclass(frozen=True)
class Kind:
    """One kind of finding; facts go into both texts by their names."""

    severity: Severity
    sentence: str
    advice: str = ""


@dataclass(frozen=True)
class Finding:
    """What was found of a `subject`, as in `vm web01`, and what to do (empty: nothing)."""

    code: str
    severity: Severity
    subject: str
    sentence: str
    advice: str


def found(code: str, subject: str, **facts: Any) -> Finding:
    """A finding of a kind of the catalogue."""
    kind = CATALOGUE[code]
    sentence, advice = (text.format(**facts) for text in (kind.sentence, kind.advice))
    return Finding(code, kind.severity, subject, sentence, advice)


_OK, _NOTE, _WARNING, _CRITICAL = Severity

CATALOGUE: dict[str, Kind] = {
    # The host
    "libvirt-unreachable": Kind(
        _CRITICAL,
        "libvirt does not answer: {reason}",
        "start it (systemctl status libvirtd virtqemud), or name it with --connect",
    ),
    "libvirt-refused": Kind(
        _WARNING,
        "libvirt does not let this user in: {reason}",
        "run this as root or as a member of the group libvirt",
    ),
    "version-untested": Kind(
        _WARNING,
        "{program} {version} is older than what virtceph is tested with ({least})",
        "upgrade it, or try virtceph here on a VM that does not matter first",
    ),
    "daemon-absent": Kind(
        _NOTE,
        "virtcephd does not answer at {path}",
        "none of this needs it; snapshots and keys do: systemctl enable --now virtcephd.socket",
    ),
    "unseen": Kind(_NOTE, "{what} could not be looked at: {reason}", "{advice}"),
    # VMs
    "vm-ready": Kind(_OK, "a consistent snapshot would work: {systems} on its disks"),
    "vm-off": Kind(_NOTE, "is off, so there is nothing to freeze", ""),
    "vm-paused": Kind(
        _NOTE,
        "is paused, so its agent cannot freeze anything",
        "virsh resume {vm}",
    ),
    "agent-absent": Kind(
        _WARNING,
        "has no channel for a guest agent: its snapshots are what a power cut would leave",
        "add a channel with the target org.qemu.guest_agent.0 to its definition, and install "
        "qemu-guest-agent in the guest",
    ),
    "agent-disconnected": Kind(
        _WARNING,
        "has a channel for a guest agent, and no agent is on it",
        "install qemu-guest-agent in the guest and start it",
    ),
    "agent-silent": Kind(
        _WARNING,
        "its guest agent did not answer within {waited}",
        "restart qemu-guest-agent in the guest",
    ),
    "agent-failed": Kind(
        _WARNING,
        "its guest agent refuses to tell its file systems: {reason}",
        "let qemu-guest-agent have guest-get-fsinfo and guest-fsfreeze-* (its block list, SELinux)",
    ),
    "guest-frozen": Kind(
        _WARNING,
        "its file systems are frozen at this moment",
        "if nobody is snapshotting it: virtceph VM getFreezeStatus vmID={vm}; "
        "virtceph VM thaw vmID={vm} force=true",
    ),
    "no-file-system": Kind(
        _WARNING,
        "no mounted file system of the guest lies on its disks, so a freeze says nothing of them",
        "expected of databases on raw disks; else look at what the guest has mounted",
    ),
    "disk-unfit": Kind(
        _WARNING,
        "its disk {disk} is neither in RBD nor in a file: snapshots leave it out",
        "move it into RBD (virtceph Volume import), or name the other disks in disks=",
    ),
    "disk-file": Kind(
        _NOTE,
        "its disk {disk} is a file ({path}): a snapshot puts an overlay on it, which only a merge ends",
        "move it into RBD (virtceph Volume import)",
    ),
    "disk-namespace": Kind(
        _WARNING,
        "its disk {disk} lies in a namespace, which libvirt {version} does not understand",
        "upgrade libvirt to 11.6, or keep it in the pool's default namespace",
    ),
    "no-rbd-disk": Kind(
        _NOTE,
        "has no writable disk in RBD: VM.snapshot overlays its files, nothing else here is for it",
    ),
    # Keys
    "secret-persistent": Kind(
        _WARNING,
        "the key is on this host's disk in clear ({where})",
        "virtceph adopt-secret {uuid}",
    ),
    "secret-encrypted": Kind(
        _NOTE,
        "the key is on this host's disk, encrypted by libvirt ({where})",
        "virtceph adopt-secret {uuid}, if it should not be there at all",
    ),
    "secret-readable": Kind(
        _NOTE,
        "whoever may use libvirt may read its value (private='no')",
        "register it with virtceph, which keeps it private",
    ),
    "secret-missing": Kind(
        _WARNING,
        "libvirt has no such secret; disks of {vms} cannot be opened again before it is registered",
        "virtceph Host registerSecrets, or a [[secret]] in virtcephd.toml (see --suggest)",
    ),
    "secret-shared": Kind(
        _NOTE,
        "is used for several cephx users ({users}): it can be the key of one of them only",
        "give each user a secret of its own",
    ),
    "key-left": Kind(
        _WARNING,
        "a key lies in {path} although libvirt has no such secret",
        "if nobody needs it: shred -u {path}",
    ),
    "admin-keyring": Kind(
        _WARNING,
        "this host holds a key of the cluster's administrator ({path}): whoever is root here may delete "
        "every pool",
        "keep it on the cluster's own hosts; virtceph needs none",
    ),
    "auth-missing": Kind(
        _NOTE,
        "disks in RBD without a user ({disks}): the cluster could not be asked about them",
        "if the cluster has cephx on, give them an <auth> with a secret",
    ),
    # Users and clusters
    "key-rejected": Kind(
        _CRITICAL,
        "the cluster does not know the key that libvirt has for it (secret {uuid})",
        "compare it with ceph auth get-key {user}",
    ),
    "caps-read": Kind(
        _CRITICAL,
        "may not read the pool {pool}, used by {vms}: {reason}",
        "ceph auth caps {user} mon 'profile rbd' osd 'profile rbd pool={pool}'",
    ),
    "caps-write": Kind(
        _CRITICAL,
        "may not write to the pool {pool}, used by {vms}",
        "ceph auth caps {user} mon 'profile rbd' osd 'profile rbd pool={pool}'",
    ),
    "caps-blocklist": Kind(
        _WARNING,
        "lacks osd blocklist: a VM whose host died cannot take its disks' locks over, and stays without them",
        "ceph auth caps {user} mon 'profile rbd' osd '…' (with the osd caps that it has)",
    ),
    "caps-unknown": Kind(
        _NOTE,
        "what it may do could not be asked: {reason}",
        "{advice}",
    ),
    "pool-missing": Kind(
        _CRITICAL, "the pool {pool} does not exist; named by {vms}", "ceph osd pool ls"
    ),
    "pool-unasked": Kind(
        _CRITICAL,
        "the pool {pool}, used by {vms}, cannot be asked: {reason}",
        "ceph status: are there OSDs down?",
    ),
    "pool-nearly-full": Kind(
        _WARNING,
        "the pool {pool} is {percent} % full",
        "make room, or add OSDs: VMs stand still when it is full",
    ),
    "cluster-silent": Kind(
        _CRITICAL,
        "does not answer, and has disks of {vms}: {reason}",
        "is the network there, and are the monitors up?",
    ),
    "cluster-ill": Kind(_WARNING, "calls itself {health}", "ceph health detail"),
    "cluster-unwell": Kind(_NOTE, "calls itself {health}", "ceph health detail"),
    "cluster-ready": Kind(_OK, "answers within {latency}"),
    "cluster-slow": Kind(
        _WARNING,
        "took {latency} to answer",
        "each step of a snapshot takes so long, and the guest is frozen meanwhile",
    ),
    "cluster-client-old": Kind(
        _NOTE,
        "runs Ceph {theirs}, and this host's librbd is {ours}",
        "expected during an upgrade",
    ),
    "propose-slow": Kind(
        _NOTE,
        "paxos_propose_interval is {interval}: each snapshot waits for the monitors' next round, so a "
        "guest stays frozen for about {cost}, {most} at the most, for that alone",
        "ceph config set mon paxos_propose_interval 0.2",
    ),
    "propose-unknown": Kind(
        _NOTE,
        "paxos_propose_interval is told to administrators only; at its default (1 s) a snapshot keeps a "
        "guest frozen for about 0.7 s",
        "ceph tell mon.\\* config get paxos_propose_interval",
    ),
    # Monitors
    "monitor-gone": Kind(
        _WARNING,
        "the cluster has no such monitor any more; named by {vms}",
        "virsh edit them: the monitors are now {monitors}",
    ),
    "monitors-all-gone": Kind(
        _CRITICAL,
        "none of the monitors it names is the cluster's any more: it cannot be started again",
        "virsh edit {vm}: the monitors are now {monitors}",
    ),
    "monitor-silent": Kind(
        _WARNING,
        "is a monitor of the cluster, and does not answer: {reason}",
        "look at its host: one more that fails, and the cluster may stand still",
    ),
    "monitor-unknown": Kind(
        _NOTE,
        "does not answer ({reason}), and nobody could be asked whether the cluster still has it; named by "
        "{vms}",
        "ceph mon dump",
    ),
}
