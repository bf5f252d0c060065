"""What the workers' unit sets: systemd's two ways of writing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.mastodon.unit_environment import environment_of, file_of, read_environment_file


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("RAILS_ENV=production MALLOC_ARENA_MAX=2", {"RAILS_ENV": "production", "MALLOC_ARENA_MAX": "2"}),
        ('A=1 "DB_PASS=p 1" B=2', {"A": "1", "DB_PASS": "p 1", "B": "2"}),
        ('"DB_PASS=p\\"\\\\\\$\\`1"', {"DB_PASS": 'p"\\$`1'}),
        ("$'DB_PASS=it\\'s\\n2' B=2", {"DB_PASS": "it's\n2", "B": "2"}),
        ('"A=\\x41\\101\\t"', {"A": "AA\t"}),
        ("A=b=c", {"A": "b=c"}),
        ("A= B=", {"A": "", "B": ""}),
        ("A=it's", {"A": "it's"}),
        ("DB_PASS=p#1", {"DB_PASS": "p#1"}),
        ("", {}),
    ],
)
def test_the_property_environment(shown: str, expected: dict[str, str]) -> None:
    assert environment_of(shown) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DB_PASS=p#1\n", {"DB_PASS": "p#1"}),  # unlike dotenv
        ("DB_PASS=p #1\n", {"DB_PASS": "p #1"}),
        ("# DB_PASS=x\n; DB_USER=y\nDB_NAME=n\n", {"DB_NAME": "n"}),
        ("DB_PASS='p 1'\n", {"DB_PASS": "p 1"}),
        ('DB_PASS="p \\"1\\" \\n \\$"\n', {"DB_PASS": 'p "1" \\n $'}),
        ("DB_PASS=a\\\nb\n", {"DB_PASS": "ab"}),
        ("DB_PASS=a\\bc\n", {"DB_PASS": "abc"}),
        ("DB_PASS=x   \nDB_USER=y", {"DB_PASS": "x", "DB_USER": "y"}),
        ("DB_PASS=\nDB_USER=y", {"DB_PASS": "", "DB_USER": "y"}),
        ("  DB_PASS = x\n", {"DB_PASS": "x"}),
        ("DB_PASS='a'\"b\"c\n", {"DB_PASS": "abc"}),
        ("DB_PASS=a'b'\n", {"DB_PASS": "a'b'"}),
        ("DB_PASS=$HOME\n", {"DB_PASS": "$HOME"}),
        ("export DB_PASS=x\n", {}),
        ("DB_PASS='a\nb'\n", {"DB_PASS": "a\nb"}),
        ("no line\nDB_PASS=x\r\nDB_USER=y\r\n", {"DB_PASS": "x", "DB_USER": "y"}),
        ("DB_PASS=x\nDB_PASS=y\n", {"DB_PASS": "y"}),
        ("# a\\\nDB_PASS=x\nDB_USER=y\n", {"DB_USER": "y"}),
    ],
)
def test_an_environment_file_has_systemds_syntax(text: str, expected: dict[str, str]) -> None:
    assert read_environment_file(text) == expected


def test_a_comment_ends_with_its_line_since_systemd_254() -> None:
    assert read_environment_file("# a\\\nDB_PASS=x\n", comments_continue=False) == {"DB_PASS": "x"}


def test_only_ascii_blanks_end_a_variable() -> None:
    assert environment_of("A=x\u00a0y B=1\u2028") == {"A": "x\u00a0y", "B": "1\u2028"}


def test_which_files_a_unit_names() -> None:
    assert file_of("/etc/default/mastodon (ignore_errors=no)") == ("/etc/default/mastodon", False)
    assert file_of("/etc/my file (ignore_errors=yes)") == ("/etc/my file", True)
    assert file_of("/etc/x") == ("/etc/x", False)


@given(st.text(st.sampled_from("A=B_ '\"\\#;$\n\r\tx"), max_size=40))
def test_any_text_gives_variables(text: str) -> None:
    assert all(name.isidentifier() for name in (*read_environment_file(text), *environment_of(text)))
