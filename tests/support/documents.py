"""Runs the README's code blocks over a dataset in SQLite."""

import re
import sqlite3
from pathlib import Path

import msgspec

from atlas.core import rows
from atlas.core.rows import Header

ROWS = (Path(__file__).parents[2] / "atlas" / "core" / "README.md").read_text(encoding="utf-8")
COLUMNS = rows.COLUMNS


def block(language: str) -> str:
    (found,) = re.findall(rf"(?ms)^```{language}$(.*?)^```$", ROWS)
    return found


def dataset(*exports: tuple[str, bytes]) -> sqlite3.Connection:
    """A dataset of exports accepted at this moment; SQLite replaces Spark."""
    db = sqlite3.connect(":memory:")
    db.execute(f"CREATE TABLE healthkit_raw ({', '.join(COLUMNS)})")
    for at, ndjson in exports:
        table = rows.flatten(ndjson.splitlines(), Header("ada", "phone", at, at))
        for line in table.ndjson.splitlines():
            row = msgspec.json.decode(line)
            places = ", ".join("?" * len(COLUMNS))
            db.execute(f"INSERT INTO healthkit_raw VALUES ({places})", [*row.values()])
    return db


def sample(uuid: str, value: int) -> bytes:
    record = {"uuid": uuid, "sampleType": "Steps", "startDate": "2026-01-01", "valueDouble": value}
    return msgspec.json.encode({name: each for name, each in record.items() if each != ""}) + b"\n"
