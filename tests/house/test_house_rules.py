"""Rules about the code itself: sizes, names, and which modules name which laws."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.project import PROJECT

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 50
FOLDER_FILES_MAX = 20
WORDS_NOT_USED = {
    "manager",
    "managers",
    "handler",
    "handlers",
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
}

#: Modules in which a mistake could break a law, and the laws that each names in its docstring.
LAWS = {
    "core/instances/scheduler.py": {1},
    "core/fleet/rival.py": {1},
    "app/may_schedule.py": {1},
    "core/model/worker_settings.py": {1},
    "core/model/unit_rules/judge.py": {1, 4, 6},
    "core/capacity/budget.py": {2},
    "core/plan.py": {2, 3},
    "core/demand/desired.py": {3, 6},
    "core/model/facts.py": {3},
    "core/demand/needed.py": {3},
    "daemon/observe.py": {3},
    "core/instances/drain.py": {4},
    "core/instances/lifecycle.py": {4},
    "adapters/systemd/units.py": {4, 6},
    "daemon/loop.py": {5},
    "core/instances/host_memory.py": {6},
    "core/carry_out.py": {6},
    "core/instances/manual_changes.py": {6},
    "core/instances/orders.py": {6, 7},
    "core/fleet/orders.py": {6, 7},
    "core/sharing/orders/to_fleet.py": {3, 6, 7},
    "core/sharing/orders/counts.py": {6},
    "core/sharing/orders/restarts.py": {6, 7},
    "core/sharing/orders/heard.py": {6},
    "core/instances/start.py": {6},
    "core/instances/health.py": {3, 4},
    "core/instances/stuck.py": {3, 4},
    "core/instances/rollout.py": {1, 2, 4},
    "core/instances/constraints.py": {1, 2, 3, 6},
    "daemon/log.py": {7, 8},
    "core/model/decision.py": {8},
    "core/__init__.py": {9},
    "daemon/act.py": {2},
    "core/capacity/admission.py": {2, 3, 8},
    "core/capacity/claims.py": {2, 3},
    "core/sharing/report.py": {3},
    "core/sharing/merged.py": {5},
    "core/sharing/share.py": {3},
    "core/sharing/fleet_plan.py": {8},
}


def sources() -> list[Path]:
    return [path for folder in ("src", "lab", "deb") for path in sorted((PROJECT / folder).rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", sources(), ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX, "too long: split it where its subjects part"
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", [*sources(), *sorted((PROJECT / "tests").rglob("*.py"))], ids=name)
def test_names_of_modules_say_what_is_in_them(path: Path) -> None:
    for part in path.relative_to(PROJECT).with_suffix("").parts:
        assert not set(re.split(r"[_.]", part)) & WORDS_NOT_USED


@pytest.mark.parametrize("path", sources(), ids=name)
def test_every_module_has_a_docstring(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no opening docstring"


@pytest.mark.parametrize(("module", "laws"), list(LAWS.items()), ids=list(LAWS))
def test_a_module_that_could_break_a_law_names_it(module: str, laws: set[int]) -> None:
    opening = ast.get_docstring(ast.parse((PROJECT / "src/fleetd" / module).read_text())) or ""
    named = {int(n) for words in re.findall(r"[Ll]aws?\s+([0-9, and]+)", opening) for n in re.findall("[0-9]", words)}
    assert laws <= named, f"names {sorted(named)}, should name {sorted(laws)}"


def test_no_module_that_orders_units_is_left_out() -> None:
    """A module that orders a step, or calls the port that carries it out, could break law 4 or 6."""
    found = {
        str(path.relative_to(PROJECT / "src/fleetd"))
        for path in (PROJECT / "src/fleetd").rglob("*.py")
        if "simulate" not in path.parts  # its units are not real, and its checks watch the same laws
        if re.search(r"\bdecision\.order\(|\.carry_out\(", path.read_text())
    }
    assert found >= {"core/instances/start.py", "core/instances/drain.py", "daemon/act.py"}
    assert found <= set(LAWS)


@pytest.mark.parametrize("path", sorted((PROJECT / "tests").rglob("test_*.py")), ids=name)
def test_no_test_module_imports_from_another(path: Path) -> None:
    """What two of them need is in tests/support, under a name that says what it gives."""
    modules = [
        module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for module in [node.module or ""]
    ]
    assert not [m for m in modules if m.startswith("tests.") and m.rpartition(".")[2].startswith("test_")]


@pytest.mark.parametrize(
    "folder", sorted({p.parent for p in [*sources(), *(PROJECT / "tests").rglob("*.py")]}), ids=name
)
def test_no_folder_has_too_many_files(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= FOLDER_FILES_MAX, "too many subjects in one room"


def test_every_port_has_a_contract() -> None:
    """If a fake differed from the real adapter, tests on it would prove nothing."""
    ports = ast.parse((PROJECT / "src/fleetd/ports.py").read_text())
    names = [
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).lower().replace("pg_bouncer", "pgbouncer")
        for node in ports.body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
    ]
    contracts = "".join(path.read_text() for path in (PROJECT / "tests/support/contracts").glob("*.py"))
    found = set(re.findall(r"^(\w+)_contract: tuple", contracts, re.MULTILINE))
    assert len(names) > 10
    assert [name for name in names if not {name, name.removesuffix("_source")} & found] == []
