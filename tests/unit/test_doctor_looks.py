"""How the doctor looks: bounded, at files that people wrote, at monitors that greet or do not."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import pytest

from tests.fakes.waiting import until
from virtceph.doctor.bounded import Late, left_behind, side_by_side
from virtceph.doctor.keyfiles import key_in, libvirt_key_files, monitors_in, read_ceph_conf
from virtceph.doctor.monitors import greet
from virtceph.virt.inspection import read_accesses, read_secret

BOUND_S = 20.0


def test_what_hangs_is_left_behind_and_the_others_are_answered() -> None:
    never = threading.Event()
    began_s = time.monotonic()
    answers = side_by_side({"hangs": never.wait, "answers": lambda: True}, 0.3)
    assert time.monotonic() - began_s < BOUND_S
    assert isinstance(answers["hangs"], Late)
    assert answers["answers"] is True
    assert left_behind()
    never.set()
    until(lambda: not left_behind())


def test_more_questions_than_may_be_asked_at_once_are_asked_in_turn() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def ask() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    answers = side_by_side(dict.fromkeys(range(20), ask), 5.0, at_once=4)
    assert list(answers.values()) == [None] * 20
    assert most <= 4


def test_what_a_question_raises_is_its_answer() -> None:
    def fail() -> None:
        raise ValueError("no")

    assert isinstance(side_by_side({"one": fail}, 5.0)["one"], ValueError)


@pytest.mark.parametrize(
    ("greeting", "failure"),
    [
        (b"ceph v027", None),
        (b"ceph v2\n\x10\x00", None),
        (b"SSH-2.0-OpenSSH", "no monitor"),
        (b"", "no monitor"),
    ],
)
def test_a_monitor_is_known_by_its_greeting(greeting: bytes, failure: str | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        seen = greet(address, 5.0)
        thread.join()
    assert (seen.latency_s is None) is (failure is not None)
    assert failure is None or failure in (seen.failure or "")
    assert seen.resolved == (address,)


def test_a_monitor_that_says_nothing_costs_its_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        began_s = time.monotonic()
        seen = greet(f"127.0.0.1:{server.getsockname()[1]}", 0.3)
        assert time.monotonic() - began_s < BOUND_S
    assert seen.failure == "no answer within 0.3 s"


@pytest.mark.parametrize("address", ["127.0.0.1:x", "no.such.host.invalid:6789"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    assert "cannot be resolved" in (greet(address, 1.0).failure or "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1:6789",)),
        ("10.0.0.1:6790, mon2.example", ("10.0.0.1:6790", "mon2.example:6789")),
        (
            "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0],[v2:10.0.0.2:3300/0]",
            ("10.0.0.1:3300", "10.0.0.1:6789", "10.0.0.2:3300"),
        ),
        ("[fd00::1]:6789 [fd00::2]", ("[fd00::1]:6789", "[fd00::2]:6789")),
        ("[v2:[fd00::1]:3300,v1:[fd00::1]:6789]", ("[fd00::1]:3300", "[fd00::1]:6789")),
        ("", ()),
    ],
)
def test_every_way_to_write_monitors_is_read(text: str, expected: tuple[str, ...]) -> None:
    assert monitors_in(text) == expected


KEY = b"k" * 28
KEYRING = f'[client.admin]\n\tkey = {base64.b64encode(KEY).decode()}\n\tcaps mon = "allow *"\n'


def test_an_administrators_keyring_is_found_where_ceph_conf_leads(tmp_path: Path) -> None:
    conf = tmp_path / "ceph.conf"
    conf.write_text("[global]\nmon host = 10.0.0.1\nfsid = x  ; a comment\n")
    assert (found := read_ceph_conf(conf)) is not None
    assert (found.monitors, found.keyring, found.key) == (("10.0.0.1:6789",), None, None)
    usual = tmp_path / "ceph.client.admin.keyring"
    usual.write_text(KEYRING)
    assert (found := read_ceph_conf(conf)) is not None
    assert found.keyring == usual
    assert found.key is not None
    assert found.key.reveal() == KEY
    assert "********" in repr(found)
    other = tmp_path / "client.admin.key"
    other.write_text(KEYRING)
    conf.write_text(f"[global]\nmon_host = 10.0.0.1\n[client]\nkeyring = {tmp_path}/$name.key\n")
    assert (found := read_ceph_conf(conf)) is not None
    assert found.keyring == other


@pytest.mark.parametrize("text", ["", "key = x", "[client.admin]\nkey = no base64!", "\0"])
def test_a_keyring_that_is_none_has_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keyring"
    path.write_text(text)
    assert key_in(path, "admin") is None


def test_no_ceph_conf_is_no_error(tmp_path: Path) -> None:
    assert read_ceph_conf(tmp_path / "none") is None


def test_libvirts_key_files_are_told_by_uuid(tmp_path: Path) -> None:
    assert libvirt_key_files(tmp_path).files == {}
    folder = tmp_path / "secrets"
    folder.mkdir()
    clear, encrypted = UUID(int=1), UUID(int=2)
    (folder / f"{clear}.base64").touch()
    (folder / f"{clear}.xml").touch()
    (folder / f"{encrypted}.aes256cbc").touch()
    found = libvirt_key_files(tmp_path)
    assert found.files is not None
    assert set(found.files) == {clear, encrypted}
    assert found.encrypted == {encrypted}


DOMAIN = """
<domain><devices>
  <disk type='network' device='disk'>
    <auth username='web'><secret type='ceph' uuid='22222222-2222-4222-8222-222222222222'/></auth>
    <source protocol='rbd' name='rbd/ns/a'><host name='10.0.0.1' port='6789'/></source>
    <target dev='vda'/>
  </disk>
  <disk type='network' device='cdrom'>
    <source protocol='rbd' name='rbd/b'>
      <host name='fd00::1'/><config file='/etc/ceph/ceph.conf'/>
      <auth username='iso'><secret type='ceph' usage='by name'/></auth>
    </source>
    <target dev='sda'/><readonly/>
  </disk>
  <disk type='file'>
    <source file='/overlay'/>
    <backingStore type='network'><source protocol='rbd' name='rbd/c'/></backingStore>
    <target dev='vdb'/>
  </disk>
</devices></domain>
"""


def test_how_each_image_is_reached_is_read_wherever_it_stands() -> None:
    first, second, third = read_accesses(DOMAIN)
    assert (first.target, first.user, first.source.namespace) == ("vda", "web", "ns")
    assert first.secret == UUID("22222222-2222-4222-8222-222222222222")
    assert (second.user, second.secret, second.config_file) == (
        "iso",
        "by name",
        "/etc/ceph/ceph.conf",
    )
    assert second.source.monitors == ("[fd00::1]:6789",)
    assert (third.target, third.user, third.secret) == ("vdb", None, None)


def test_a_secrets_xml_is_read() -> None:
    ident = UUID(int=5)
    usage = "<usage type='ceph'><name>n</name></usage>"
    found = read_secret(
        f"<secret ephemeral='no' private='yes'><uuid>{ident}</uuid>{usage}</secret>"
    )
    assert (found.uuid, found.usage_type, found.usage_id) == (ident, "ceph", "n")
    assert (found.ephemeral, found.private) == (False, True)


def test_other_commands_load_neither_libvirt_nor_ceph() -> None:
    for words in (["doctor", "-h"], ["adopt-secret", "-h"], ["-h"]):
        code = (
            f"import sys; from virtceph.cli.main import main; code = main({words}); "
            "slow = {'libvirt', 'rados', 'rbd', 'virtceph.virt', 'virtceph.ceph'}; "
            "sys.exit(code or ', '.join(slow & set(sys.modules)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_command_line_is_told_by_a_code_of_its_own() -> None:
    from virtceph.cli.main import main

    assert main(["doctor", "--frobnicate"]) == 3
    assert main(["doctor", "--json", "--suggest"]) == 3
