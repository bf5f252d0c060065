"""The pages about where things are must be right: files exist, names are defined in them, links have targets."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.project import PROJECT

MAP = PROJECT / "docs/where-do-i-change.md"
EVERYDAY = PROJECT / "docs/everyday-changes.md"
PAGES = sorted({*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("lab/*.md")})


class Row(NamedTuple):
    change: str
    file: Path
    names: tuple[str, ...]


def located(path: str) -> Path:
    """A file named on the page: below src/fleetd or, if it is not there, below the checkout."""
    own = PROJECT / "src/fleetd" / path
    return own if own.exists() else PROJECT / path


def rows() -> list[Row]:
    found = []
    for line in MAP.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3 and cells[1].startswith("`"):
            found.append(Row(cells[0], located(cells[1].strip("`")), tuple(re.findall(r"`([^`]+)`", cells[2]))))
    return found


def defined_in(path: Path) -> set[str]:
    """The classes, functions and constants of a module."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def test_the_map_has_rows() -> None:
    assert len(rows()) > 60


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.change)
def test_the_map_names_files_that_exist_and_what_is_defined_in_them(row: Row) -> None:
    assert row.file.is_file()
    if row.names:
        assert set(row.names) <= defined_in(row.file)


def everyday() -> list[tuple[str, str, Path]]:
    found = []
    for line in EVERYDAY.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch("[0-9]+", cells[0]):
            found.append((cells[1], cells[2].strip("`"), located(cells[3].strip("`"))))
    return found


@pytest.mark.parametrize(("change", "name", "file"), everyday(), ids=[change[:60] for change, _, _ in everyday()])
def test_each_everyday_change_is_decided_where_the_page_says(change: str, name: str, file: Path) -> None:
    defined = name in defined_in(file) or re.search(rf"\b(def|class) {re.escape(name)}\b", file.read_text())
    assert defined, f"{change}: {name} is not in {file}"


def test_there_are_twelve_everyday_changes() -> None:
    assert len(everyday()) == 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_between_pages_have_targets(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not re.match("[a-z]+:", target):
            assert (page.parent / target).exists(), target


def test_every_decision_is_linked_from_the_architecture_page() -> None:
    linked = set(re.findall(r"\(decisions/([^)]+)\)", (PROJECT / "docs/architecture.md").read_text()))
    assert linked == {path.name for path in (PROJECT / "docs/decisions").glob("*.md")}


def test_files_that_pages_name_exist() -> None:
    """Files are recognised by backticks and a folder, as in `core/plan.py`."""
    lost = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue  # it names files of its time
        for name in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9@.-]+\.(?:py|lua|sh|toml|service))`", page.read_text()):
            if not located(name).exists() and not (page.parent / name).exists():
                lost.append(f"{page.name}: {name}")
    assert lost == []
