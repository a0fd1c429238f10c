"""The CLI's reading of command lines: values by type, help at every level, wrong usage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from virtceph.cli.arguments import UsageError
from virtceph.cli.main import main
from virtceph.cli.values import params_from_file, params_of
from virtceph.schema import load_contract
from virtceph.schema.words import namespaces

VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
CONTRACT = load_contract()
VOLUME = (f"storageDomainID={VM}", "volumeName=a")
DOMAIN = (f"storageDomainID={VM}", f"secretUUID={VM}", "user=u", "pool=p")


def read(verb: str, *words: str) -> dict[str, Any]:
    return params_of(CONTRACT, CONTRACT.verbs[verb], list(words))


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512MiB", 512 << 20), ("10GiB", 10 << 30), ("2.5gib", 5 << 29),
     ("1K", 1 << 10), ("1M", 1 << 20), ("1G", 1 << 30), ("1T", 1 << 40), ("1 m", 1 << 20),
     ("8Mi", 8 << 20), ("4096B", 4096)],
)  # fmt: skip
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert read("Volume.create", *VOLUME, f"size={text}")["size"] == size


@pytest.mark.parametrize(
    "text", ["10GB", "1KB", "1BB", "10iB", "big", "-1", "0", "0.3", "2PiB", "", "1e3"]
)
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^size: expected a whole number.*10GiB"):
        read("Volume.create", *VOLUME, f"size={text}")


@pytest.mark.parametrize(
    ("text", "monitors"),
    [
        ("127.0.0.1:6789,127.0.0.2:6789", ["127.0.0.1:6789", "127.0.0.2:6789"]),
        ('["127.0.0.1:6789"]', ["127.0.0.1:6789"]),
        ("[::1]:3300,a:1", ["[::1]:3300", "a:1"]),
    ],
)
def test_lists_are_read_with_commas_or_as_json(text: str, monitors: list[str]) -> None:
    assert read("StorageDomain.connect", *DOMAIN, f"monitors={text}")["monitors"] == monitors


def test_a_wrong_item_of_a_list_is_named() -> None:
    with pytest.raises(UsageError, match=r"^uuids\[1\]: expected a UUID"):
        read("Host.unregisterSecrets", f"uuids={VM},x")


def test_an_empty_list_that_may_not_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"monitors: expected .* not empty"):
        read("StorageDomain.connect", *DOMAIN, "monitors=")


def test_scalars_become_what_the_contract_says() -> None:
    read_back = read("VM.snapshot", f"vmID={VM}", "frozen=TRUE", "timeout=1.5", "freeze_timeout=8")
    assert read_back == {"vmID": VM, "frozen": True, "timeout": 1.5, "freeze_timeout": 8}


def test_objects_are_read_as_json() -> None:
    drives = read("VM.snapshot", f"vmID={VM}", 'snapDrives=[{"disk": "vda"}]')["snapDrives"]
    assert drives == [{"disk": "vda"}]


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("VM.thaw", [f"vmID={VM}", "force=yes"], "force: expected true or false"),
        ("VM.freeze", [f"vmID={VM}", "timeout=601"], "timeout: expected .*seconds.*600"),
        ("VM.freeze", [f"vmID={VM}", "timeout=nan"], "timeout: expected"),
        ("VM.freeze", ["vmID="], "vmID: expected a UUID or a VM's name"),
        ("VM.freeze", [], "vmID is missing: expected a UUID or a VM's name"),
        ("VM.freeze", [f"vmID={VM}", "tiemout=1"], "no parameter 'tiemout'; it has: vmID, timeout"),
        ("VM.freeze", ["vmID"], "expected vmID=value"),
        ("VM.freeze", ["vmID=a", "vmID=b"], "vmID is given twice"),
        ("VM.snapshot", [f"vmID={VM}", "snapDrives=vda"], "snapDrives: expected a JSON array"),
        ("Volume.list", ["storageDomainID=web"], "storageDomainID: expected a UUID"),
        ("Volume.create", [*VOLUME, "size=1", "features=wings"], r"features\[0\]: expected one of"),
        ("Volume.delete", [f"storageDomainID={VM}", "volumeName=a@b"], "expected a name of letters, .*95"),
        ("StorageDomain.connect", [*DOMAIN, "monitors=web"], "as 10.0.1.1:6789"),
        ("StorageDomain.connect", [*DOMAIN, "monitors=a:65536"], "a port of 1 to 65535"),
        ("Host.ping2", ["x=1"], "no parameter 'x'; it has: none"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_field_and_what_was_expected(
    verb: str, words: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(verb, *words)


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="-f FILE") as caught:
        read("Host.registerSecrets", 'secrets=[{"password": "c2VjcmV0"}]')
    assert "c2VjcmV0" not in str(caught.value)


def test_clearing_all_secrets_needs_no_file() -> None:
    assert read("Host.registerSecrets", "secrets=[]", "clear=true") == {
        "secrets": [],
        "clear": True,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a namespace and a method"),
        (["VM"], "name a method of VM: getInfo"),
        (["vm", "freeze"], "no namespace 'vm', did you mean VM?"),
        (["VM", "frezze"], "no method 'frezze', did you mean freeze?"),
        (["--timeout", "0", "Host", "ping2"], "invalid number of seconds value: '0'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["Host", "echo", "message=a", "-f", "-"], "arg=value and -f exclude each other"),
        (["Host", "echo", "-h", "-f", "-"], "-h and -f exclude each other"),
        (["Host", "echo", "-f", "/nowhere/at/all"], "-f /nowhere/at/all: No such file"),
        (["completion", "tcsh"], "virtceph completion bash|zsh|fish"),
    ],
)
def test_wrong_usage_exits_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith("usage: virtceph")) == ("", True)
    assert message in err


@pytest.mark.parametrize(
    "words", [["tiemout=1"], [], ["vmID=a", "timeout=x"], ["vmID=a", "-f", "-"], ["-f", "/no/such"]]
)
def test_wrong_usage_of_a_verb_shows_that_verbs_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["VM", "freeze", *words]) == 2
    usage, rest = capsys.readouterr().err.split("\n", 1)
    assert usage == "usage: virtceph VM freeze vmID=… [timeout=…]"
    assert rest.startswith("virtceph: error: ")


@pytest.mark.parametrize("words", [["-h"], ["bash", "-h"]])
def test_completion_has_a_help_page(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 0
    assert capsys.readouterr().out.startswith("usage: virtceph completion bash|zsh|fish\n")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_file_that_is_no_object_exits_with_2(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params").write_bytes(text.encode("latin-1"))
    assert main(["Host", "echo", "-f", str(tmp_path / "params")]) == 2
    assert f"-f {tmp_path}/params" in capsys.readouterr().err


def test_help_lists_every_namespace_and_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    top = capsys.readouterr().out
    for name, verbs in namespaces(CONTRACT).items():
        assert main([name, "-h"]) == 0
        page = capsys.readouterr().out
        assert name in top
        assert all(verb.summary.split()[0] in page for verb in verbs)


@pytest.mark.parametrize("verb", CONTRACT.verbs)
def test_help_of_a_verb_names_its_parameters_and_errors(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb.split("."), "--help"]) == 0
    page = capsys.readouterr().out
    assert all(p.name in page for p in CONTRACT.verbs[verb].params)
    assert all(error in page for error in CONTRACT.errors_of(CONTRACT.verbs[verb]))
    assert f"virtceph {verb.replace('.', ' ')}" in page.partition("example:")[2]


def test_help_tells_the_rule_of_a_scalar_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["StorageDomain", "connect", "-h"]) == 0
    assert "host:port, as 10.0.1.1:6789" in " ".join(capsys.readouterr().out.split())


def test_help_tells_units_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["VM", "freeze", "-h"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "(number, seconds; above 0, at most 600;" in page
    assert "This command passes timeout=30 unless told otherwise" in page


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep.json"
    file.write_text("[" * 100_000)
    with pytest.raises(UsageError, match="nested too deeply"):
        params_from_file(str(file))
    with pytest.raises(UsageError, match="qos: expected JSON"):
        read("Volume.setQos", *VOLUME, "qos=" + "[" * 100_000)


@pytest.mark.parametrize("cursor", ["1-2\nX: y", "1-\u00fc", "\udcff"])
def test_a_cursor_that_no_header_can_carry_is_refused(
    cursor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--since", cursor]) == 2
    assert "--since: expected a cursor" in capsys.readouterr().err
