"""The tables of the history file, shared by who writes it and who reads it.

`readings`: a minute of samples each, packed. `entries`: a sentence each, plain, so that sqlite3 alone will do after a
crash. `policies`: what was in force from then on.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

import msgspec

from fleetd.core.model.history import Sample
from fleetd.core.model.policy import Policy

#: "fled": tells the file from any other of SQLite's.
APPLICATION_ID = 0x666C6564
#: Raised when what is written can't be read by what came before; fields added at the end of a sample need no raise.
VERSION = 1
TABLES = """
CREATE TABLE readings (id INTEGER PRIMARY KEY, begins REAL NOT NULL, ends REAL NOT NULL, samples BLOB NOT NULL);
CREATE INDEX readings_ends ON readings (ends);
CREATE TABLE entries (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, warning INTEGER NOT NULL,
                      sentence TEXT NOT NULL);
CREATE INDEX entries_at ON entries (at);
CREATE TABLE policies (id INTEGER PRIMARY KEY, at REAL NOT NULL, policy BLOB NOT NULL);
"""
#: A row unpacks to no more, whatever a damaged or foreign file says.
UNPACKED_BYTES_MAX = 4 * 1024 * 1024

#: A row to write: its table, its values.
Rows = tuple[str, tuple[Any, ...]]

#: What the module raises over a file; one whose schema is damaged makes error messages that are no text.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_SAMPLES = msgspec.msgpack.Decoder(tuple[Sample, ...])
_POLICY = msgspec.msgpack.Decoder(Policy)


def packed_samples(samples: tuple[Sample, ...]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(samples), 6)


def unpacked_samples(content: bytes) -> tuple[Sample, ...]:
    """Raises ValueError for what is damaged."""
    try:
        unpacked = zlib.decompressobj().decompress(content, UNPACKED_BYTES_MAX)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return _SAMPLES.decode(unpacked)


def packed_policy(policy: Policy) -> bytes:
    return msgspec.msgpack.encode(policy)


def unpacked_policy(content: bytes) -> Policy:
    """Raises ValueError for what is damaged."""
    return _POLICY.decode(content)


def code_of(error: Exception) -> int:
    """SQLite's primary code; what the module raises by itself is about a file that makes no sense."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
