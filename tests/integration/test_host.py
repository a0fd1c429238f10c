"""Host verbs, and the JSON-RPC protocol itself, over the real socket."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Site
from tests.integration.recorder import error_of
from tests.lab.guest import Guest
from virtceph.schema import load_contract


def post(site: Site, body: bytes) -> tuple[int, bytes]:
    """Send raw bytes with curl, as an operator would; status and body of the answer."""
    done = subprocess.run(
        ["curl", "-s", "--unix-socket", str(site.daemon.socket), "-w", "\n%{http_code}",
         "--data-binary", "@-", "http://localhost/jsonrpc"],
        input=body, capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    answer, _, status = done.stdout.rpartition(b"\n")
    site.recording.replies.append(answer.decode())
    return int(status), answer


def test_ping_answers_true(site: Site) -> None:
    assert site.call("Host.ping2") is True


def test_echo_answers_the_message(site: Site) -> None:
    assert site.call("Host.echo", message="grüße\n") == "grüße\n"


def test_capabilities_name_librbd_as_engines_look_for_it(site: Site) -> None:
    found = site.call("Host.getCapabilities")
    assert found["packages2"]["librbd1"]["version"].split(".")[0].isdigit()
    assert set(found["packages2"]) == {"kernel", "libvirt", "librbd1", "qemu-kvm"}
    assert found["verbs"] == sorted(load_contract().verbs)
    assert found["lanes"]["agent"]["slots"] == 12


def test_vm_list_tells_state_and_name(site: Site, vm: Guest) -> None:
    by_id = {entry["vmId"]: entry for entry in site.call("Host.getVMList")}
    assert by_id[vm.uuid]["status"] == "Up"
    assert by_id[vm.uuid]["name"] == vm.name
    assert by_id[vm.uuid]["statusTime"].isdigit()


def test_vm_list_keeps_to_the_vms_that_were_named(site: Site, vm: Guest) -> None:
    named = [vm.uuid, str(uuid.uuid4())]
    assert [e["vmId"] for e in site.call("Host.getVMList", vmList=named)] == [vm.uuid]


def test_no_jobs_is_an_empty_map(site: Site) -> None:
    assert site.call("Host.getJobs", job_ids=[uuid.uuid4()]) == {}


def test_positional_parameters_follow_the_contracts_order(site: Site) -> None:
    body = {"jsonrpc": "2.0", "method": "Host.echo", "params": ["hello"], "id": 0}
    status, answer = post(site, json.dumps(body).encode())
    assert (status, json.loads(answer)) == (200, {"jsonrpc": "2.0", "id": 0, "result": "hello"})


def test_too_many_positional_parameters_are_refused(site: Site) -> None:
    body = {"jsonrpc": "2.0", "method": "Host.echo", "params": ["a", "b"], "id": 1}
    assert json.loads(post(site, json.dumps(body).encode())[1])["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("body", "code", "name"),
    [
        (b"{", -32700, "ParseError"),
        (b"\xff\xfe", -32700, "ParseError"),
        (b"[]", -32600, "InvalidRequest"),
        (b"5", -32600, "InvalidRequest"),
        (b'{"method": "Host.ping2", "id": 1}', -32600, "InvalidRequest"),
        (b'{"jsonrpc": "2.0", "method": 5, "id": 1}', -32600, "InvalidRequest"),
        (b'{"jsonrpc": "2.0", "method": "Host.ping2", "params": "x", "id": 1}', -32600,
         "InvalidRequest"),
        (b'{"jsonrpc": "2.0", "method": "Host.ping2", "params": null, "id": 1}', -32600,
         "InvalidRequest"),
        (b'{"jsonrpc": "2.0", "method": "Host.nosuch", "id": 1}', -32601, "MethodNotFound"),
    ],
)  # fmt: skip
def test_a_broken_request_is_told_what_is_wrong(
    site: Site, body: bytes, code: int, name: str
) -> None:
    status, answer = post(site, body)
    error = json.loads(answer)["error"]
    assert (status, error["code"], error["data"]["error"]) == (200, code, name)
    site.recording.seen.add(("-", name))


def test_a_notification_gets_no_answer(site: Site) -> None:
    assert post(site, b'{"jsonrpc": "2.0", "method": "Host.ping2"}') == (204, b"")
    assert post(site, b'[{"jsonrpc": "2.0", "method": "Host.ping2"}]') == (204, b"")


def test_a_batch_is_answered_in_its_order(site: Site) -> None:
    outcomes = site.client.batch(
        [("Host.echo", {"message": "a"}), ("Host.nosuch", {}), ("Host.echo", {"message": "b"})]
    )
    assert (outcomes[0], outcomes[2]) == ("a", "b")
    assert outcomes[1].code == -32601


def test_a_body_over_the_limit_is_refused_and_the_daemon_lives(site: Site) -> None:
    status, _ = post(site, b" " * (5 << 20))
    assert status == 413
    assert site.call("Host.ping2") is True


def test_deep_nesting_is_refused_and_the_daemon_lives(site: Site) -> None:
    _, answer = post(site, b"[" * 200_000)
    assert json.loads(answer)["error"]["code"] == -32700
    assert site.call("Host.ping2") is True


@pytest.mark.parametrize("verb", [v for v in load_contract().verbs.values() if v.params])
def test_an_unknown_parameter_is_refused_by_every_verb(site: Site, verb: Any) -> None:
    error = error_of(site.call, verb.name, nosuch=1)
    assert (error.code, error.data["field"]) == (-32602, "nosuch")


WRONG_FORM = {
    "UUID": "no-uuid",
    "Name": "a@b",
    "Path": "x",
    "[UUID]": ["no-uuid"],
    "[Path]": ["x"],
    "integer": 0,
    "number": 0,
}


@pytest.mark.parametrize(
    "verb", [v for v in load_contract().verbs.values() if "InvalidParameter" in v.errors]
)
def test_an_impossible_value_is_refused_by_every_verb(site: Site, verb: Any) -> None:
    field = next(p for p in verb.params if p.type in WRONG_FORM)
    error = error_of(site.call, verb.name, **{field.name: WRONG_FORM[field.type]})
    assert (error.code, error.data["field"].partition("[")[0]) == (91, field.name)


@pytest.mark.parametrize("name", ["a@b", "a/b", "a\nb", "", ".hidden", "x" * 96, "é"])
def test_a_name_that_tools_read_as_something_else_is_refused(site: Site, name: str) -> None:
    error = error_of(site.volume, "create", name, size=1 << 20)
    assert (error.code, error.data["field"]) == (91, "volumeName")
    assert name not in [v["volumeName"] for v in site.call(
        "Volume.list", storageDomainID=site.storage_domain_id)]  # fmt: skip


def test_the_daemons_files_are_as_the_lab_made_them(site: Site, lab_state: Path) -> None:
    assert oct(site.daemon.socket.stat().st_mode & 0o777) == "0o660"
