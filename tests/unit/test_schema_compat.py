"""What a new contract takes away from callers of an old one: each rule, and what is no breach."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtceph import __version__
from virtceph.schema.compat import breaks, main, read_compiled
from virtceph.schema.files import COMPILED, VERB_FILES, contract_folder, read_files
from virtceph.schema.spec import Contract, read_contract

TOP = Path(__file__).parents[2]
KEPT_CONTRACTS = TOP / "tests" / "contracts"
Change = Callable[[dict[str, Any]], Any]


def files() -> dict[str, Any]:
    """A contract with one of each thing."""
    return {
        "types": {
            "scalars": {
                "Name": {"base": "string", "pattern": "[a-z]+", "description": ""},
                "UUID": {"base": "string", "format": "uuid", "description": ""},
            },
            "enums": {
                "Colour": {"values": ["red", "green"], "description": ""},
                "Shade": {"values": ["dark", "light"], "description": ""},
            },
            "objects": {
                "Wish": {
                    "description": "",
                    "fields": {
                        "colour": "Colour",
                        "size": {"type": "integer", "unit": "bytes", "minimum": 1, "default": 5},
                    },
                },
                "Thing": {
                    "description": "",
                    "fields": {
                        "name": "Name",
                        "shade": "Shade",
                        "age": {"type": "number", "unit": "seconds"},
                        "note": {"type": "string", "optional": True},
                    },
                },
            },
        },
        "errors": {
            "NoThing": {
                "code": 5,
                "kind": "caller",
                "title": "No thing",
                "facts": {"name": "string"},
                "description": "",
                "remedy": "",
            },
            "Away": {
                "code": 6,
                "kind": "unavailable",
                "title": "Away",
                "description": "",
                "remedy": "",
            },
        },
        **{name: {} for name in VERB_FILES},
        "host": {
            "Host.make": {
                "since": "0.1",
                "summary": "",
                "lane": "libvirt",
                "level": "operator",
                "params": {
                    "name": "Name",
                    "wish": {"type": "Wish", "optional": True},
                    "count": {"type": "integer", "default": 1, "minimum": 1, "maximum": 9},
                    "tags": {"type": "[string]", "default": [], "invalid": "NoThing"},
                },
                "result": {"type": "Thing"},
                "errors": ["NoThing"],
                "trueToEngines": True,
            },
        },
        "events": {
            "thing_made": {
                "since": "0.1",
                "summary": "",
                "level": "monitor",
                "subject": "name",
                "params": {"name": "string", "note": {"type": "string", "optional": True}},
            },
        },
    }


def verb(changed: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = changed["host"]["Host.make"]
    return made


def param(changed: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = verb(changed)["params"][name]
    return found


def field(changed: dict[str, Any], thing: str, name: str) -> Any:
    return changed["types"]["objects"][thing]["fields"][name]


def told(change: Change) -> list[str]:
    changed = files()
    change(changed)
    return breaks(read_contract(files()), read_contract(changed))


def new(**what: Any) -> dict[str, Any]:
    return {"since": "0.2", **what}


BREACHES: list[tuple[Change, str]] = [
    (lambda c: c["host"].pop("Host.make"), "verb Host.make: it is gone"),
    (lambda c: verb(c)["params"].pop("count"), "its parameter count is gone"),
    (lambda c: verb(c)["params"].update(more=new(type="string")), "new parameter more is required"),
    (lambda c: param(c, "count").pop("default"), "its parameter count is required now"),
    (lambda c: param(c, "count").update(type="string", minimum=None, maximum=None, default="1"),
     "its parameter count was integer and is string"),
    (lambda c: param(c, "count").update(default=2), "its parameter count has another default"),
    (lambda c: param(c, "count").update(minimum=2), "count must be larger than before"),
    (lambda c: param(c, "count").update(above=3), "count must be larger than before"),
    (lambda c: param(c, "count").update(maximum=8), "count must be smaller than before"),
    (lambda c: param(c, "tags").update(nonempty=True), "tags must not be empty any more"),
    (lambda c: param(c, "count").update(unit="bytes"), "its parameter count has another unit"),
    (lambda c: param(c, "count").update(invalid="NoThing"),
     "was refused as InvalidParams or InvalidParameter and is as NoThing"),
    (lambda c: param(c, "tags").pop("invalid"),
     "was refused as NoThing and is as InvalidParams or InvalidParameter"),
    (lambda c: verb(c).update(params={n: verb(c)["params"][n]
                                      for n in ("wish", "name", "count", "tags")}),
     "its parameters stand in another order"),
    (lambda c: verb(c).update(level="admin"), "its level rose from operator to admin"),
    (lambda c: verb(c).update(result={"type": "string"}), "its result was Thing and is string"),
    (lambda c: verb(c).update(trueToEngines=False), "engines are no longer answered true"),
    (lambda c: c["errors"].pop("Away"), "error Away: it is gone"),
    (lambda c: c["errors"]["Away"].update(code=7), "its code was 6 and is 7"),
    (lambda c: c["errors"]["Away"].update(kind="failed"), "its kind was unavailable and is failed"),
    (lambda c: c["errors"]["NoThing"].update(facts={}), "its fact name is gone"),
    (lambda c: c["errors"]["NoThing"].update(facts={"name": "integer"}), "its fact name was string"),
    (lambda c: c["events"].pop("thing_made"), "event thing_made: it is gone"),
    (lambda c: c["events"]["thing_made"]["params"].pop("note"), "its parameter note is gone"),
    (lambda c: c["events"]["thing_made"].update(level="operator"), "its level rose from monitor"),
    (lambda c: c["events"]["thing_made"].update(subject=None), "engines hear it by another method"),
    (lambda c: c["types"]["objects"]["Thing"]["fields"].pop("name"), "its field name is gone"),
    (lambda c: c["types"]["objects"]["Thing"]["fields"].update(name={"type": "Name", "optional": True}),
     "its field name may be absent now"),
    (lambda c: field(c, "Thing", "age").update(unit="minutes"), "its field age has another unit"),
    (lambda c: field(c, "Thing", "age").update(type="string"), "its field age was number and is string"),
    (lambda c: c["types"]["enums"]["Shade"].update(values=["dark"]), "its value light is gone"),
    (lambda c: c["types"]["enums"]["Colour"].update(values=["red"]), "its value green is gone"),
    (lambda c: c["types"]["objects"]["Wish"]["fields"].update(more=new(type="string")),
     "type Wish: its new field more is required"),
    (lambda c: field(c, "Wish", "size").update(minimum=2), "size must be larger than before"),
    (lambda c: c["types"]["scalars"]["Name"].update(pattern="[a-y]+"), "Name has another pattern"),
    (lambda c: c["types"]["scalars"]["UUID"].update(format=None), "type UUID is of another kind"),
    (lambda c: verb(c).update(since="0.2"), "it is there since 0.1, not since 0.2"),
    (lambda c: verb(c)["params"].update(more={"type": "string", "optional": True}),
     "verb Host.make: more: it is new, and says to be there since 0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), BREACHES)
def test_what_callers_rely_on_is_missed(change: Change, sentence: str) -> None:
    found = told(change)
    assert any(sentence in one for one in found), found


KEPT: list[Change] = [
    lambda c: None,
    lambda c: verb(c).update(lane="agent", deadline_s=60, key=None, summary="better"),
    lambda c: verb(c).update(level="monitor"),
    lambda c: verb(c).update(errors=["NoThing", "Away"]),
    lambda c: verb(c)["params"].update(more=new(type="string", optional=True)),
    lambda c: param(c, "count").update(minimum=None, maximum=20),
    lambda c: param(c, "count").update(type="number"),
    lambda c: c["types"]["enums"]["Colour"]["values"].append("blue"),
    lambda c: c["types"]["enums"]["Shade"]["values"].append("grey"),
    lambda c: c["types"]["objects"]["Thing"]["fields"].update(more=new(type="string")),
    lambda c: c["types"]["objects"]["Wish"]["fields"].update(more=new(type="string", optional=True)),
    lambda c: c["types"]["objects"]["Thing"]["fields"].update(note="string"),
    lambda c: c["types"]["scalars"]["Name"].update(pattern=None),
    lambda c: c["host"].update({"Host.more": {**verb(c), "since": "0.2"}}),
    lambda c: c["errors"].update(More={**c["errors"]["Away"], "code": 8, "since": "0.2"}),
    lambda c: c["events"].update(more={**c["events"]["thing_made"], "since": "0.2"}),
    lambda c: c["events"]["thing_made"]["params"].update(more=new(type="integer")),
    lambda c: c["events"]["thing_made"].update(engines={"component": "a", "operation": "b"}),
]  # fmt: skip


@pytest.mark.parametrize("change", KEPT)
def test_what_nobody_relies_on_may_change(change: Change) -> None:
    assert told(change) == []


def test_an_answer_that_may_be_a_fraction_where_it_was_whole_is_a_breach() -> None:
    def whole(changed: dict[str, Any]) -> None:
        field(changed, "Thing", "age").update(type="integer")

    old = files()
    whole(old)
    fraction = read_contract(files())
    assert any("was integer and is number" in s for s in breaks(read_contract(old), fraction))
    # The other way round callers get less than they are ready for.
    assert breaks(fraction, read_contract(old)) == []


# --- the command ---


def compiled(folder: Path, name: str, content: dict[str, Any]) -> str:
    path = folder / name
    path.write_text(json.dumps({"sha256": "", "files": content}))
    return str(path)


def test_the_command_names_what_breaks(tmp_path: Path, capsys: Any) -> None:
    old = compiled(tmp_path, "old.json", files())
    changed = files()
    verb(changed)["level"] = "admin"
    assert main([old, compiled(tmp_path, "new.json", changed)]) == 1
    assert capsys.readouterr().out == "verb Host.make: its level rose from operator to admin\n"
    assert main([old, old]) == 0


@pytest.mark.parametrize("content", ["", "{}", '{"files": {}}', "[]"])
def test_what_is_no_contract_is_told(tmp_path: Path, capsys: Any, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert main([str(path), str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert main([str(tmp_path / "none"), str(path)]) == 2
    assert main([]) == 2


# --- our own ---


def last_tag() -> str | None:
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if found.returncode else found.stdout.strip()


def of_tag(tag: str) -> Contract:
    shown = subprocess.run(
        ["git", "show", f"{tag}:schema/{COMPILED}"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    )
    return read_compiled(shown.stdout)


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def kept() -> list[Path]:
    """The contracts that are kept, the newest last."""
    return sorted(KEPT_CONTRACTS.glob("*.json"), key=lambda path: version(path.stem))


def test_the_contract_breaks_nothing_of_the_last_release() -> None:
    ours = read_contract(read_files(contract_folder()))
    tag, files = last_tag(), kept()
    if tag is not None:
        assert breaks(of_tag(tag), ours) == []
    elif files:
        # A clone without tags, or nothing was released yet: then more may come under the same version.
        before = read_compiled(files[-1].read_text("utf-8"))
        assert breaks(before, ours, released=files[-1].stem != __version__) == []
    elif "CI" in os.environ:
        pytest.fail(f"neither a tag v* nor a file in {KEPT_CONTRACTS}")
    else:
        pytest.skip(f"neither a tag v* nor a file in {KEPT_CONTRACTS}")


def test_a_contract_that_is_kept_is_named_for_its_release() -> None:
    assert kept()
    for path in kept():
        verbs = read_compiled(path.read_text("utf-8")).verbs.values()
        assert max(version(verb.since) for verb in verbs) == version(path.stem)[:2]


def test_before_a_release_more_may_come_under_its_version() -> None:
    old = files()
    changed = files()
    changed["host"]["Host.more"] = verb(changed)
    more = read_contract(changed)
    assert breaks(read_contract(old), more, released=False) == []
    assert any("it is new" in sentence for sentence in breaks(read_contract(old), more))
    # What is taken away is missed all the same.
    assert breaks(more, read_contract(old), released=False) == ["verb Host.more: it is gone"]
