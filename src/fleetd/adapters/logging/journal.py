"""Logging: one way out for fleetd's own sentences (structlog) and for what libraries log (stdlib logging).

Every line goes through the same steps: level, exception text, secrets out, what is not plain escaped, bounds, output.
Queue names come from other people: a terminal obeys control characters, and journalctl shows a message with one as
"blob data".
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from fleetd.adapters.logging.outputs import (
    FIELD_BYTES_MAX,
    FIELDS_MAX,
    MESSAGE_BYTES_MAX,
    PRIORITIES,
    Output,
    output_for,
)
from fleetd.adapters.logging.redaction import HIDDEN, names_secret, without_secrets
from fleetd.words.plain import plain

#: systemd's words for priorities 0 to 7, as `systemctl service-log-level` has them.
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_ALIASES = {"error": "err", "critical": "crit", "warn": "warning"}
_KEY_LENGTH_MAX = 40
#: Libraries log from this level on; below it, psycopg alone writes a dozen lines for each connection.
_LIBRARIES_FROM = logging.WARNING
_LIBRARIES_FROM_WHEN_DEBUGGING = logging.INFO

_EventDict = MutableMapping[str, Any]


class _State:
    """Of the whole process, as logging is."""

    output: Output | None = None
    priority_max = 6


def configure(level: str = "info", *, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Route all logging of this process; `stream` (default: stderr) and JOURNAL_STREAM in `environ` say where to."""
    _State.output = output_for(stream or sys.stderr, environ)
    structlog.configure(
        processors=[
            _drop_below_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _to_logger,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=_Logger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _FromLibraries)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibraries())
    logging.captureWarnings(capture=True)
    set_level(level)


def set_level(level: str) -> None:
    """Log everything from `level` on: a word of `systemctl service-log-level` or of the configuration.

    Raises ValueError for any other word.
    """
    word = _ALIASES.get(level, level)
    if word not in LEVELS:
        raise ValueError(f"{level!r} is no log level: {', '.join(LEVELS)}")
    _State.priority_max = LEVELS.index(word)
    logging.getLogger().setLevel(_LIBRARIES_FROM_WHEN_DEBUGGING if word == "debug" else _LIBRARIES_FROM)


def level() -> str:
    """The level in force, in systemd's words."""
    return LEVELS[_State.priority_max]


class _Logger:
    """What loggers of structlog.get_logger(name) write to."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, event: _EventDict) -> None:
        if self.name:
            event.setdefault("logger", self.name)
        _write(event)

    debug = info = warning = warn = error = exception = critical = fatal = log = msg


class _FromLibraries(logging.Handler):
    """Writes the records of stdlib logging like our own."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: _EventDict = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
            if record.exc_info:
                event["exception"] = logging.Formatter().formatException(record.exc_info)
        except Exception:  # a library may pass wrong arguments to its own log line
            event = {"event": f"{record.name}: {record.msg!r}", "level": "warning"}
        if PRIORITIES.get(event["level"], 6) <= _State.priority_max:
            _write(event)


def _drop_below_level(_logger: object, method: str, event: _EventDict) -> _EventDict:
    if PRIORITIES.get(method, 6) > _State.priority_max:
        raise structlog.DropEvent
    return event


def _to_logger(_logger: object, _method: str, event: _EventDict) -> tuple[tuple[_EventDict], dict[str, Any]]:
    return (event,), {}


def _write(event: _EventDict) -> None:
    if _State.output is not None:
        _State.output.write(finished(event))


def finished(event: Mapping[str, Any]) -> dict[str, str]:
    """The line as it is written: strings only, without secrets and what is not plain, bounded in number and size."""
    line = {
        "event": _text(event.get("event", ""), MESSAGE_BYTES_MAX),
        "level": _text(event.get("level", "info"), _KEY_LENGTH_MAX),
    }
    for key, value in event.items():
        if key in line or len(line) >= FIELDS_MAX:
            continue
        if key == "exception":
            text = without_secrets(str(value))[-MESSAGE_BYTES_MAX:]  # its end says what happened
            line[key] = "\n".join(plain(part) for part in text.split("\n"))
        elif value and names_secret(key):
            line[key] = HIDDEN
        else:
            line[_text(key, _KEY_LENGTH_MAX)] = _text(value, FIELD_BYTES_MAX)
    return line


def _text(value: object, length_max: int) -> str:
    text = without_secrets(str(value))[:length_max]
    return plain(text)[:length_max]
