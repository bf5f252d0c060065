"""config.example.toml is what people read: it has every key, and the default of each is right."""

import re
import tomllib
import typing
from typing import Any

import msgspec
import pytest

from fleetd.config import parse
from fleetd.config.access_tables import File, ProfileSection
from fleetd.config.toml_reader import keys_of, section
from fleetd.core.model.policy_tables import PolicyTables
from fleetd.errors import ConfigProblem
from tests.support.project import PROJECT

EXAMPLE = PROJECT / "config.example.toml"
PROFILE = "default-first"
MINIMAL = f'[profiles.{PROFILE}]\ninstances = "1-4"\n'
#: Keys without a fixed default: it is empty or follows from other keys. The example shows a possible value.
ILLUSTRATIONS = {
    ("connections", "claims"),
    ("pace", "booting_max"),
    ("network", "private"),
    ("network", "cleartext_password"),
}


def _uncommented() -> dict[str, dict[str, Any]]:
    """The tables of the example with their commented keys enabled, but without the commented profiles."""
    lines: list[str] = []
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("#[") or re.match(r"#[a-z_]+ = ", line):
            lines.append(line[1:])
        else:
            lines.append(line)
    return tomllib.loads("\n".join(lines))


def _kinds() -> dict[str, Any]:
    """The plain tables of the file: table name to section."""
    kinds = {}
    for name, hint in typing.get_type_hints(File).items():
        options = [hint, *typing.get_args(hint)]
        kind = next((o for o in options if isinstance(o, type) and issubclass(o, msgspec.Struct)), None)
        if kind is not None and typing.get_origin(hint) is not dict:
            kinds[name] = kind
    return kinds


def test_the_example_is_the_minimal_configuration() -> None:
    assert parse(EXAMPLE.read_text(), machine_host="h") == parse(MINIMAL, machine_host="h")


def test_the_minimal_configuration_gives_no_warnings() -> None:
    assert parse(MINIMAL, machine_host="h").warnings == ()


@pytest.mark.parametrize(
    ("table", "key"),
    [(table, key) for table, kind in _kinds().items() for key in keys_of(kind)]
    + [(f"profiles.{PROFILE}", key) for key in ProfileSection.__struct_fields__ if key not in ("queues", "weights")]
    + [("profiles.bulk", "queues"), ("profiles.even", "weights")]
    + [("targets", queue) for queue in ("default", "push", "ingress", "mailers", "pull", "fasp")],
)
def test_every_key_is_in_the_example(table: str, key: str) -> None:
    tables = _uncommented()
    inner = tables["profiles"][table.removeprefix("profiles.")] if "." in table else tables[table]
    assert key in inner


@pytest.mark.parametrize("table", sorted(_kinds()))
def test_every_default_in_the_example_is_the_real_one(table: str) -> None:
    kind = _kinds()[table]
    problems: list[ConfigProblem] = []
    shown = section(kind, _uncommented()[table], table, problems)
    assert problems == []
    default = kind()
    for key, field in keys_of(kind).items():
        real = getattr(default, field)
        if real is not None and (table, key) not in ILLUSTRATIONS:
            assert getattr(shown, field) == real, f"{table}.{key}"


def test_the_defaults_that_follow_from_other_keys_are_the_real_ones() -> None:
    tables = _uncommented()
    shown = "\n".join(f"{key} = {_toml(value)}" for key, value in tables["profiles"][PROFILE].items())
    text = f"[profiles.{PROFILE}]\n{shown}\n[scheduler]\ndb_pool = {tables['scheduler']['db_pool']}\n"
    assert parse(text, machine_host="h").policy == parse(MINIMAL, machine_host="h").policy


def test_the_targets_in_the_example_are_the_real_ones() -> None:
    assert _uncommented()["targets"] == parse(MINIMAL).policy.targets_seconds


def test_all_profiles_of_the_example_together_are_valid() -> None:
    profiles = _uncommented()["profiles"]
    rows = [
        f"[profiles.{name}]\n" + "\n".join(f"{k} = {_toml(v)}" for k, v in p.items()) for name, p in profiles.items()
    ]
    policy = parse("\n".join(rows)).policy
    assert [p.name for p in policy.profiles] == ["default-first", "push-first", "bulk", "even"]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {v}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        str(value).replace("'", '"')
        if isinstance(value, list)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )


def _another(hint: Any, default: object) -> Any:
    """A valid value of this key other than its default."""
    kind = msgspec.inspect.type_info(hint)
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        kind = next(option for option in kind.types if not isinstance(option, msgspec.inspect.NoneType))
    if isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.LiteralType):
        return kind.values[-1]
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return ["scheduler", "pull"]
    if isinstance(kind, msgspec.inspect.BoolType):
        return not default
    assert isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    return kind.ge if kind.le == default else kind.le


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (table, key)
        for table in PolicyTables.__struct_fields__
        for key in keys_of(typing.get_type_hints(PolicyTables)[table])
    ],
)
def test_every_key_of_a_policy_table_reaches_the_policy(table: str, key: str) -> None:
    kind = typing.get_type_hints(PolicyTables)[table]
    field = keys_of(kind)[key]
    default = getattr(getattr(PolicyTables(), table), field)
    value = _another(typing.get_type_hints(kind, include_extras=True)[field], default)
    read = parse(f"{MINIMAL}[{table}]\n{key} = {_toml(value)}\n").policy
    got = getattr(getattr(read, table), field)
    assert got == (tuple(value) if isinstance(value, list) else value)
    assert got != default
