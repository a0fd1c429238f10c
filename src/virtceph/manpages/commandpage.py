"""virtceph(1): the command line."""

from __future__ import annotations

from virtceph import __version__
from virtceph.cli import (
    adopt,
    doctor,
    events,
    manual,
    pki,
    shortjobs,
    shortlist,
    shortrestore,
    shortsnapshot,
    shortstatus,
)
from virtceph.cli.arguments import USAGE
from virtceph.manpages.helptext import Help, read
from virtceph.manpages.roff import Page
from virtceph.schema.examples import example_command
from virtceph.schema.spec import Contract
from virtceph.schema.words import namespaces

_DAILY = {
    "status": shortstatus.HELP,
    "snapshot": shortsnapshot.HELP,
    "snapshots": shortlist.HELP,
    "restore": shortrestore.HELP,
    "jobs": shortjobs.HELP,
}
_HOST = {"doctor": doctor.HELP, "adopt-secret": adopt.HELP, "events": events.HELP}
_EXAMPLES = """\
virtceph status
virtceph snapshot web01 --label daily --keep-daily 7 --keep-weekly 4
virtceph restore web01@daily-20261124-030000
virtceph --human VM getInfo vmID=web01
virtceph Host registerSecrets -f secrets.json
virtceph --wait VM createConsistentSnapshot vmID=web01 snapshotName=before-upgrade
virtceph doctor
"""


def command_page(contract: Contract) -> str:
    """The page's text."""
    page = Page("virtceph", 1, __version__, "snapshots, disks and keys of VMs on Ceph")
    page.section("Synopsis")
    usages = [read(text).usage for text in (*_DAILY.values(), *_HOST.values(), pki.HELP)]
    page.synopsis("\n".join([USAGE, *usages, manual.completion_usage().removeprefix("usage: ")]))
    _introduce(page, contract)
    page.section("Day by day")
    page.paragraph("Each is made of verbs, and does no more than they do.")
    for text in _DAILY.values():
        _command(page, read(text))
    page.section("The host")
    for text in _HOST.values():
        _command(page, read(text))
    _command(page, read(pki.HELP))
    _verbs(page, contract)
    _end(page)
    return page.text()


def _introduce(page: Page, contract: Contract) -> None:
    top = read(manual.top(contract))
    page.section("Description")
    for text in top.prose[:1]:
        page.paragraph(text)
    page.paragraph(
        "The verbs are grouped in namespaces: `Host`, `VM`, `Volume` and others. The words "
        "below, in small "
        "letters, are for what is done every day, and for what needs no daemon."
    )
    page.section("Options")
    page.paragraph("Of verbs; the others tell theirs below.")
    for head, text in top.terms["options"]:
        page.entry(head, text)


def _command(page: Page, told: Help) -> None:
    page.subsection(" ".join(told.usage.split()[:2]))
    page.synopsis(told.usage)
    for text in told.prose:
        page.paragraph(text)
    for terms in told.terms.values():
        for head, text in terms:
            page.entry(head, text)
    for head, text in told.notes:
        page.entry(head, text)


def _verbs(page: Page, contract: Contract) -> None:
    page.section("Verbs")
    page.paragraph(
        "`virtceph NAMESPACE METHOD -h` tells the parameters, the result and the errors of "
        "each, and an example. "
        "A VM may be named by its name; sizes may have units, as in 10GiB."
    )
    for name, verbs in namespaces(contract).items():
        page.subsection(name)
        for verb in verbs:
            page.entry(verb.name.replace(".", " "), verb.summary, example_command(contract, verb))


def _end(page: Page) -> None:
    page.section("Exit status")
    for code, text in (
        ("0", "done"),
        ("1", "the verb or the connection failed; `doctor`: there is a warning"),
        ("2", "the command line is wrong; `doctor`: something is critical"),
        ("3", "`snapshot`: only crash consistent; `doctor`: the command line is wrong"),
        ("130", "interrupted; a job that was waited for goes on"),
    ):
        page.entry(code, text)
    page.section("Environment")
    page.entry("VIRTCEPH_SOCKET", "The daemon's socket.")
    page.entry("LIBVIRT_DEFAULT_URI", "The libvirt that `doctor` and `adopt-secret` look at.")
    page.entry("NO_COLOR", "Nothing is emphasised, also on a terminal.")
    page.section("Files")
    page.entry("/run/virtceph/virtcephd.sock", "The daemon's socket.")
    page.entry("/etc/default/virtceph-snapshot", "What `virtceph-snapshot@.service` does.")
    page.section("Examples")
    page.example(_EXAMPLES)
    page.section("See also")
    page.paragraph("`virtcephd(8)`, `virtcephd.toml(5)`, `virsh(1)`, `rbd(8)`")
