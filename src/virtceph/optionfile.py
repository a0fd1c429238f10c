"""From parsed TOML to the dataclasses of the options, and back to text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints


class ConfigError(Exception):
    """The configuration is wrong: the option, and what was expected."""


def section(cls: Any, values: Any, prefix: str) -> Any:
    """A table as the dataclass of its options; `prefix` is what errors name it by. Raises ConfigError."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"[{prefix[:-1]}]: expected a table")
    options = {f.name: f for f in dataclasses.fields(cls)}
    refuse_unknown(values, options, prefix)
    for name, field in options.items():
        if name not in values and _is_required(field):
            raise ConfigError(f"{prefix}{name}: is missing")
    hints = get_type_hints(cls)
    return cls(
        **{
            name: _value(hints[name], options[name].metadata, value, prefix + name)
            for name, value in values.items()
        }
    )


def sections(cls: Any, tables: Any, name: str) -> list[Any]:
    """An array of tables, each as the dataclass of its options. Raises ConfigError."""
    if not isinstance(tables, list):
        raise ConfigError(f"{name}: expected [[{name}]], one table for each")
    return [section(cls, values, f"{name}[{index}].") for index, values in enumerate(tables)]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def refuse_unknown(raw: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> None:
    """Raise ConfigError for the first name that is not known."""
    for name in raw:
        if name not in known:
            raise ConfigError(f"{prefix}{name}: no such option; there are {', '.join(known)}")


def _value(hint: Any, rule: Mapping[str, Any], value: Any, name: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wanted = list if hint == list[str] else hint
    if not isinstance(value, wanted) or isinstance(value, bool) is not (hint is bool):
        raise ConfigError(f"{name}: expected {_type_name(hint)}")
    if hint == list[str] and not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{name}: expected {_type_name(hint)}")
    if "choices" in rule and value not in rule["choices"]:
        raise ConfigError(f"{name}: expected one of {', '.join(rule['choices'])}")
    low, high = rule.get("minimum"), rule.get("maximum")
    # Written so that nan, which TOML allows and which compares with nothing, is refused.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        raise ConfigError(f"{name}: expected {low:g} to {high:g}")
    return value


def _type_name(hint: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    return names.get(hint, "a list of text")


def commented(cls: Any) -> list[str]:
    """The lines of a table's options with their comments and defaults, out of force."""
    lines = []
    for option in dataclasses.fields(cls):
        lines += [f"# {line}" for line in option.metadata["comment"].splitlines()]
        lines.append(f"#{option.name} = {as_toml(_shown(option))}")
    return lines


def _shown(option: dataclasses.Field[Any]) -> Any:
    if _is_required(option):
        return option.metadata["example"]
    factory = option.default_factory
    return option.default if factory is dataclasses.MISSING else factory()


def as_toml(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
