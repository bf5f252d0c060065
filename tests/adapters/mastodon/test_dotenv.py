"""Laws of the dotenv parser; what single files mean is in the table (test_settings_table.py)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.mastodon.database_rules import database_settings, replica_settings
from fleetd.adapters.mastodon.dotenv import CHARACTERS_MAX, NAMES, Variables, read_dotenv
from fleetd.adapters.mastodon.redis_rules import redis_settings
from fleetd.adapters.mastodon.releases import NEWEST, Release, release_of
from fleetd.errors import ConfigProblem

RELEASES: list[Release] = [(4, 2), (4, 3), (4, 4), (4, 5), (4, 6)]
releases = st.sampled_from(RELEASES)
#: Whatever can stand in a file, and much of what means something to the parser.
texts = st.lists(
    st.sampled_from(
        ["A", "DB_PASS", "=", ":", " ", "\n", "'", '"', "#", "\\", "$", "{", "}", "(", ")", "export ", "\r", "x"]
    )
    | st.text(max_size=3),
    max_size=30,
).map("".join)
names = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,8}\Z").filter(lambda name: not name.startswith("DOTENV"))
#: Without a quote and a zero byte; a line break stays one.
plain = st.text(st.characters(exclude_characters="'\0\r", exclude_categories=["Cs"]), max_size=20)


def read(text: str, release: Release = NEWEST, environment: dict[str, str] | None = None) -> Variables:
    return read_dotenv([(".env.production", text)], environment, release)


@given(texts, releases)
def test_any_text_gives_variables_or_problems(text: str, release: Release) -> None:
    variables, problems = read(text, release), list[ConfigProblem]()
    for name, value in variables.known().items():
        assert variables.get(name, problems) == value
        assert variables.place(name).startswith(".env.production, line ")
    redis_settings(variables, problems, release)
    database_settings(variables, problems, release)
    replica_settings(variables, problems, release)
    assert all(problem.what and problem.cure.endswith(".") for problem in problems)


@given(st.dictionaries(names, plain, max_size=5), releases)
def test_what_is_written_in_single_quotes_reads_back(values: dict[str, str], release: Release) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in values.items() if not value.endswith("\\"))
    assert read(text, release).known() == {n: v for n, v in values.items() if not v.endswith("\\")}


@given(st.lists(st.tuples(names, plain.filter(lambda v: not v.endswith("\\"))), max_size=5), plain, releases)
def test_comments_do_not_matter(lines: list[tuple[str, str]], comment: str, release: Release) -> None:
    comment = " ".join(comment.split("\n"))
    bare = "".join(f"{name}='{value}'\n" for name, value in lines)
    commented = "".join(f"# {comment}\n{name}='{value}' # {comment}\n" for name, value in lines)
    assert read(commented, release).known() == read(bare, release).known()


@given(texts, releases)
def test_reading_twice_changes_nothing(text: str, release: Release) -> None:
    """What is set already stays: the second time every name is, so nothing new comes of the same file."""
    once = read(text, release).known()
    again = read_dotenv([(".env.local", text), (".env.production", text)], None, release).known()
    assert {name: again[name] for name in once} == once
    assert read_dotenv([(".env", text)], once, release).known() == once | read(text, release, once).known()


@given(st.dictionaries(st.sampled_from(NAMES), st.dictionaries(names, plain, max_size=3)), releases)
def test_the_first_file_wins_and_the_unit_before_all(files: dict[str, dict[str, str]], release: Release) -> None:
    ordered = [(name, files[name]) for name in NAMES if name in files]
    quoted = [
        (name, "".join(f"{key}='{value}'\n" for key, value in values.items() if not value.endswith("\\")))
        for name, values in ordered
    ]
    wanted: dict[str, str] = {}
    for _, values in ordered:
        for key, value in values.items():
            if not value.endswith("\\"):
                wanted.setdefault(key, value)
    assert read_dotenv(quoted, None, release).known() == wanted
    assert read_dotenv(quoted, dict.fromkeys(wanted, "unit"), release).known() == dict.fromkeys(wanted, "unit")


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 120_000,
        " \n" * 60_000,
        "A\n" * 60_000,
        "A=\n" * 40_000,
        "A='\n" * 30_000,
        'A="x\n' * 25_000,
        "A=" + "$(" * 60_000,
        "A=" + "(" * 120_000,
        "A=" + "\\" * 120_000,
        "A" * 120_000 + "!",
        "A='" + "\\'" * 60_000,
        "A " + "\n" * 120_000 + "!",
        "A: " + "\n" * 120_000 + "!",
        "A=" + "'\"" * 60_000,
        "export " * 17_000,
    ],
)
@pytest.mark.parametrize("release", [(4, 3), (4, 6)])
def test_no_file_takes_long(text: str, release: Release) -> None:
    """User mastodon writes it, and root reads it."""
    began = time.process_time()
    read(text, release)
    assert time.process_time() - began < 5.0


def test_values_that_double_are_cut_off() -> None:
    lines = ["A0=0123456789abcdef", *(f"A{n}=$A{n - 1}$A{n - 1}" for n in range(1, 60))]
    variables = read("\n".join(lines))
    assert sum(map(len, variables.known().values())) <= CHARACTERS_MAX
    problems: list[ConfigProblem] = []
    assert variables.get("A59", problems) is None
    assert "line 60 of .env.production uses $A58, whose value fleetd can't know" in str(problems[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nDB_PASS=$(cat Geheim7)", "line 2 of .env.production takes its value from a command, which fleetd does not"),
        ("A=`x`$(Geheim7)\nDB_PASS=$A", "line 2 of .env.production uses $A, whose value fleetd can't know"),
        ("DB_PASS=Geheim7$HOME", "line 1 of .env.production uses $HOME, which the worker's own process may have"),
        ("DB_PASS=${RBENV_ROOT}Geheim7", "line 1 of .env.production uses $RBENV_ROOT, which the worker's own"),
        ("DB_PASS='Geheim7\0'", "line 1 of .env.production contains a zero byte"),
    ],
)
def test_what_cannot_be_known_is_refused_when_it_is_needed(text: str, said: str) -> None:
    problems: list[ConfigProblem] = []
    assert database_settings(read(text), problems) is None
    assert [said in str(problem) for problem in problems] == [True]
    assert "Geheim7" not in str(problems[0])
    assert redis_settings(read(text), []) is not None


@pytest.mark.parametrize("release", RELEASES)
def test_a_file_with_which_mastodon_does_not_start_is_said(release: Release) -> None:
    (problem,) = read("A=1\n\nexport DB_PASS\n", release).broken
    assert str(problem) == (
        "DB_PASS: line 3 of .env.production exports it without a value, with which Mastodon does not start. "
        "Write NAME=value."
    )


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("4.3.23", (4, 3)),
        ("4.6.0-alpha.4+glitch", (4, 6)),
        ("4.10.1", (4, 6)),
        ("5.0.0", (4, 6)),
        ("4.1.9", (4, 2)),
        ("3.5.19", (4, 2)),
        ("", None),
        ("nightly", None),
        ("4", None),
    ],
)
def test_the_nearest_known_release_sets_the_rules(version: str, release: Release | None) -> None:
    assert release_of(version) == release
