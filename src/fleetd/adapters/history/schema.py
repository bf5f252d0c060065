"""The tables of the history file, shared by who writes it and who reads it.

`readings`: a minute of samples each, packed. `entries`: a sentence each, plain, so that after a crash sqlite3 alone can
show them. `policies`: the policy in force from then on. All times are Unix seconds.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

import msgspec

from fleetd.core.model.history import Sample
from fleetd.core.model.policy_tables import Policy

#: "fled" in ASCII: tells the file from any other of SQLite's.
APPLICATION_ID = 0x666C6564
#: Raised when an older fleetd could not read what is written; a field added at the end of a sample needs no raise.
VERSION = 1
TABLES = """
CREATE TABLE readings (id INTEGER PRIMARY KEY, begins REAL NOT NULL, ends REAL NOT NULL, samples BLOB NOT NULL);
CREATE INDEX readings_ends ON readings (ends);
CREATE TABLE entries (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, warning INTEGER NOT NULL,
                      sentence TEXT NOT NULL);
CREATE INDEX entries_at ON entries (at);
CREATE TABLE policies (id INTEGER PRIMARY KEY, at REAL NOT NULL, policy BLOB NOT NULL);
"""
#: The samples of one row unpack to no more than this, whatever a damaged or foreign file says.
UNPACKED_BYTES_MAX = 4 * 1024 * 1024

#: A row to write: its table, its values.
Row = tuple[str, tuple[Any, ...]]

#: What Python's sqlite3 raises about a file; the messages of one with a damaged schema may not even be text.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_SAMPLES = msgspec.msgpack.Decoder(tuple[Sample, ...])
_POLICY = msgspec.msgpack.Decoder(Policy)


def packed_samples(samples: tuple[Sample, ...]) -> bytes:
    return zlib.compress(msgspec.msgpack.encode(samples), 6)


def unpacked_samples(content: bytes) -> tuple[Sample, ...]:
    """Raises ValueError when `content` is damaged."""
    try:
        unpacked = zlib.decompressobj().decompress(content, UNPACKED_BYTES_MAX)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return _SAMPLES.decode(unpacked)


def packed_policy(policy: Policy) -> bytes:
    return msgspec.msgpack.encode(policy)


def unpacked_policy(content: bytes) -> Policy:
    """Raises ValueError when `content` is damaged."""
    return _POLICY.decode(content)


def code_of(error: Exception) -> int:
    """SQLite's primary result code; an error without one comes from Python's module and means a damaged file."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
