"""Every command that the documentation, or a sentence of fleetd's, tells people to paste."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.project import PROJECT

_PROGRAMS = (
    "systemctl fleetctl journalctl busctl curl chgrp chmod find mv install git make apt-get sudoedit editor psql"
)
_COMMAND = re.compile(rf"(?:sudo )?(?:-u \S+ )?(?:{_PROGRAMS.replace(' ', '|')}) \S")
_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")
_PAGES = ("README.md", "SECURITY.md", "CONTRIBUTING.md", "config.example.toml")


def pasted_commands() -> dict[str, str]:
    """Each command once, as it stands there but without its comment, and where it stands first."""
    found: dict[str, str] = {}
    for place, command in (*_pages(), *_sentences()):
        found.setdefault(command, place)
    return found


def _pages() -> Iterator[tuple[str, str]]:
    pages = [*(PROJECT / page for page in _PAGES), *sorted((PROJECT / "docs").glob("*.md"))]
    for page in pages:
        place, text = str(page.relative_to(PROJECT)), page.read_text()
        fenced = False
        for line in text.splitlines():
            fenced = fenced != line.startswith("```")
            command = re.sub(r"\s+#.*", "", line.strip())
            if (fenced or line.startswith("    ")) and _COMMAND.match(command):
                yield place, command
        yield from ((place, command) for command in _in_backticks(_FENCED.sub("", text)))


def _sentences() -> Iterator[tuple[str, str]]:
    """In the code's strings, but for docstrings, which users don't see."""
    for file in sorted((PROJECT / "src").rglob("*.py")):
        tree = ast.parse(file.read_text())
        unseen = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in unseen:
                yield from ((str(file.relative_to(PROJECT)), command) for command in _in_backticks(node.value))


def _in_backticks(text: str) -> Iterator[str]:
    for quoted in _QUOTED.findall(text):
        command = " ".join(quoted.split())
        if _COMMAND.match(command):
            yield command
