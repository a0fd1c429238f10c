"""The configuration file: every mistake is found at the start, and named."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from virtceph import config
from virtceph.config import Config, ConfigError, example, load, parse
from virtceph.siteoptions import Secret, StorageDomain

EXAMPLE = Path(__file__).parents[2] / "contrib" / "conf.d" / "virtcephd.toml.example"


def test_an_empty_file_is_the_defaults() -> None:
    assert parse({}) == Config()


def test_what_is_set_is_taken_and_the_rest_keeps_its_default() -> None:
    set_ = parse({"http": {"max_connections": 7}, "ceph": {"op_timeout_s": 3}})
    assert (set_.http.max_connections, set_.http.socket) == (7, Config().http.socket)
    assert (set_.ceph.op_timeout_s, type(set_.ceph.op_timeout_s)) == (3.0, float)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"htpp": {}}, "htpp: no such option; there are daemon, http"),
        ({"http": {"sockt": "x"}}, "http.sockt: no such option; there are socket"),
        ({"http": 1}, "[http]: expected a table"),
        ({"http": {"socket": 1}}, "http.socket: expected text"),
        ({"http": {"max_connections": "7"}}, "http.max_connections: expected a whole number"),
        ({"http": {"max_connections": 7.0}}, "http.max_connections: expected a whole number"),
        ({"http": {"max_connections": True}}, "http.max_connections: expected a whole number"),
        ({"daemon": {"drain_s": True}}, "daemon.drain_s: expected a number"),
        ({"daemon": {"drain_s": "20"}}, "daemon.drain_s: expected a number"),
        ({"daemon": {"exchange_dirs": "/x"}}, "daemon.exchange_dirs: expected a list of text"),
        ({"daemon": {"exchange_dirs": [1]}}, "daemon.exchange_dirs: expected a list of text"),
        ({"http": {"max_connections": 0}}, "http.max_connections: expected 1 to 65536"),
        ({"ceph": {"snapshot_timeout_s": 20.1}}, "ceph.snapshot_timeout_s: expected 1 to 20"),
        ({"daemon": {"drain_s": float("nan")}}, "daemon.drain_s: expected 0 to 600"),
        ({"stomp": {"port": 0}}, "stomp.port: expected 1 to 65535"),
        ({"stomp": {"tls": "no"}}, "stomp.tls: expected true or false"),
        ({"log": {"level": "loud"}}, "log.level: expected one of debug, info, warning, error"),
    ],
)
def test_a_mistake_names_the_option_and_what_is_expected(raw: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}"):
        parse(raw)


def tables() -> dict[str, Any]:
    """The dataclass of each table, and of the tables of each array."""
    hints = get_type_hints(Config)
    return {name: next(iter(get_args(hint)), hint) for name, hint in hints.items()}


@pytest.mark.parametrize("bound", ["minimum", "maximum"])
def test_both_ends_of_every_range_are_taken(bound: str) -> None:
    for name, table in tables().items():
        for option in dataclasses.fields(table):
            if bound in option.metadata:
                value = option.metadata[bound]
                parsed = parse({name: {option.name: value}})
                assert getattr(getattr(parsed, name), option.name) == value


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        load(path)


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('[log]\nlevel = "debug"\n')
    assert load(path).log.level == "debug"


def test_the_example_says_the_defaults() -> None:
    assert parse(tomllib.loads(example())) == Config()
    in_force = re.sub(r"^#(?=[a-z_]+ = |\[\[)", "", example(), flags=re.MULTILINE)
    raw = tomllib.loads(in_force)
    # What has no default is shown by an example.
    secret, domain = raw["secret"][0], raw["storage_domain"][0]
    assert parse(raw) == Config(secret=[Secret(**secret)], storage_domain=[StorageDomain(**domain)])
    first = {name: one[0] if isinstance(one, list) else one for name, one in raw.items()}
    assert {name: set(table) for name, table in first.items()} == {
        name: {f.name for f in dataclasses.fields(table)} for name, table in tables().items()
    }


def test_the_shipped_example_is_fresh() -> None:
    renew = "python -m virtceph.daemon --print-config > contrib/conf.d/virtcephd.toml.example"
    assert EXAMPLE.read_text() == example(), f"renew it: {renew}"


def test_every_option_has_a_comment() -> None:
    for table in tables().values():
        for option in dataclasses.fields(table):
            assert option.metadata["comment"].endswith("."), option.name


def test_a_list_is_not_shared_between_configurations() -> None:
    config.Config().daemon.exchange_dirs.append("/x")
    assert "/x" not in config.Config().daemon.exchange_dirs
