"""virtcephd(8): the daemon and its guard."""

from __future__ import annotations

from virtceph import __version__
from virtceph.manpages.roff import Page

_OPTIONS = {
    "-h, --help": "Tell the options.",
    "--version": "Tell the version.",
    "--config FILE": (
        "The configuration; /etc/virtceph/virtcephd.toml when it is there, else the defaults."
    ),
    "--print-config": (
        "Write a commented example of the configuration, every option with its default."
    ),
    "--clear-secrets": (
        "Remove the daemon's secrets from libvirt, and end. For the unit, after a crash."
    ),
}
_GUARD = {
    "--config FILE": "The daemon's configuration.",
    "--with-daemon": "End when no daemon runs and no lease is left.",
}
_SIGNALS = {
    "SIGTERM, SIGINT": (
        "Take no new requests, finish those under way (`daemon.drain_s`), thaw every guest "
        "whose lease is open, "
        "remove the secrets, and end."
    ),
    "SIGHUP": "Read certificates again.",
}
_FILES = {
    "/etc/virtceph/virtcephd.toml": "The configuration; see `virtcephd.toml(5)`.",
    "/run/virtceph/virtcephd.sock": (
        "The socket. Who may use it is as good as root on this host's VMs."
    ),
    "/run/virtceph/": (
        "Records of open leases and paused VMs, and of snapshots under way: small, and without "
        "keys."
    ),
    "/var/lib/virtceph/": "Records of jobs that move data.",
    "/var/lib/virtceph/exchange/": (
        "The folder under which verbs read and write files that their callers name."
    ),
}


def daemon_page() -> str:
    """The page's text."""
    page = Page("virtcephd", 8, __version__, "host agent for VMs whose disks live in Ceph RBD")
    page.section("Synopsis")
    page.synopsis(
        "virtcephd [--config FILE]\nvirtcephd --print-config | --clear-secrets | --version\n"
        "virtceph-guard [--config FILE] [--with-daemon]"
    )
    page.section("Description")
    for text in (
        "`virtcephd` does on a hypervisor what an engine, a script or a person asks for by "
        "JSON-RPC: it keeps cephx "
        "keys as ephemeral, private libvirt secrets; freezes guests for a limited time; "
        "snapshots all disks of a VM "
        "together and says how consistent that is; makes, copies, moves and removes RBD "
        "volumes, and plugs them "
        "into running VMs.",
        "It is started by systemd, as the user `virtceph`. Keys and storage domains are in "
        "its memory only. It may be "
        "restarted at any time: running VMs do not notice.",
        "`virtceph-guard` is a small process of its own. It thaws guests whose lease has run "
        "out, and resumes VMs "
        "that were paused for their memory, when the daemon does not.",
    ):
        page.paragraph(text)
    page.section("Options")
    for head, text in _OPTIONS.items():
        page.entry(head, text)
    page.paragraph("Of `virtceph-guard`:")
    for head, text in _GUARD.items():
        page.entry(head, text)
    page.section("Signals")
    for head, text in _SIGNALS.items():
        page.entry(head, text)
    page.section("Files")
    for head, text in _FILES.items():
        page.entry(head, text)
    page.section("Exit status")
    page.entry("0", "It was told to end, and did.")
    page.entry("1", "It could not start; one line says why.")
    page.section("See also")
    page.paragraph("`virtceph(1)`, `virtcephd.toml(5)`, `libvirtd(8)`, `systemctl(1)`")
    return page.text()
