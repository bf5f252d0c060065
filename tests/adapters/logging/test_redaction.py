"""Secrets are never logged, ordinary sentences stay as they are, and any event can be logged."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetd.adapters.logging.journal import finished
from fleetd.adapters.logging.outputs import Prefixed, Terminal

SECRET = "hunter2-Kx9"


@given(
    st.sampled_from(
        [
            {"event": f"can't reach redis://user:{SECRET}@host:6379/0"},
            {"event": f"postgresql://mastodon:a@{SECRET}@db/x failed"},
            {"event": f"connect(host='db', password='{SECRET}', user='m')"},
            {"event": f"conninfo host=db password={SECRET} user=x"},
            {"event": f'{{"password": "{SECRET}", "host": "db"}}'},
            {"event": f"DB_PASS={SECRET}"},
            {"event": "x", "password": SECRET},
            {"event": "x", "db_pass": SECRET},
            {"event": "x", "redis_url": f"redis://{SECRET}"},
            {"event": "x", "dsn": SECRET},
            {"event": "x", "settings": {"password": SECRET}},
            {"event": "x", "settings": [f"rediss://:{SECRET}@h"]},
            {"event": "x", "error": ValueError(f"invalid dsn: postgres://u:{SECRET}@h")},
            {"event": "x", "exception": f"Traceback\n  psycopg.Error: sslpassword={SECRET}"},
        ]
    )
)
def test_secrets_stay_inside(event: dict[str, object]) -> None:
    assert SECRET not in str(finished(event))


@pytest.mark.parametrize(
    "sentence",
    [
        "start mastodon-sidekiq@3.service: default waits 40 s",
        "fleetctl: see https://docs.joinmastodon.org/admin/scaling/ for more",
        "redis://main:6379/0 can't be read",
        "a drain passes; tokens are no secret here",
        "limit 97 − reserve 10 − others 20",
    ],
)
def test_ordinary_sentences_are_left_alone(sentence: str) -> None:
    assert finished({"event": sentence})["event"] == sentence


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text() | st.binary() | st.floats() | st.lists(st.text()), max_size=8))
def test_any_event_can_be_logged(event: dict[str, object]) -> None:
    line = finished(event)
    assert all(type(value) is str for value in line.values())
    stream = io.StringIO()
    for output in (Prefixed(stream), Terminal(stream, colours=True)):
        output.write(line)


def test_redaction_in_a_separate_process() -> None:
    """As in the daemon: stderr is a pipe, so lines carry their priority."""
    program = (
        "import structlog\nfrom fleetd.adapters.logging import journal\njournal.configure()\n"
        "structlog.get_logger('fleetd').info('up', password='hunter2')\n"
        "import warnings; warnings.warn('careful')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0] == "<6>up password=[hidden]"
    assert lines[1].startswith("<4>")
    assert "careful" in lines[1]
