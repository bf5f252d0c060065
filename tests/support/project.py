"""Where the project's files are."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
