"""The transform and the steps of a diagnosis do what the pages say."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from atlas.core import rows
from atlas.core.rows import Header
from atlas.diagnose import NAMES

ATLAS = Path(__file__).parent.parent / "atlas"
ROWS = (ATLAS / "core" / "README.md").read_text(encoding="utf-8")
DIAGNOSIS = (ATLAS / "diagnose" / "README.md").read_text(encoding="utf-8")
COLUMNS = rows.COLUMNS


def block(language: str) -> str:
    (found,) = re.findall(rf"(?ms)^```{language}$(.*?)^```$", ROWS)
    return found


def dataset(*exports: tuple[str, bytes]) -> sqlite3.Connection:
    """Each of them accepted at this moment; SQLite stands for Spark."""
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


def test_the_transform_keeps_the_latest_row_of_each_sample_and_no_deleted_one():
    first = sample("a", 1) + sample("b", 1) + sample("c", 1) + sample("", 1)
    cut_anew = sample("b", 2) + sample("d", 1) + sample("", 1) + sample("", 2)
    with closing(
        dataset(("2026-01-01", first), ("2026-01-02", cut_anew), ("2026-01-03", b'{"uuid":"c"}\n'))
    ) as db:
        db.row_factory = sqlite3.Row
        kept = [(row["uuid"], row["value_double"]) for row in db.execute(block("sql"))]

    assert sorted(kept) == [("", 1.0), ("", 2.0), ("a", 1.0), ("b", 2.0), ("d", 1.0)]


def test_the_steps_of_a_diagnosis_are_those_that_it_walks():
    found = re.findall(r"(?m)^\| (\d+) \| ([a-z ]+) \| (\d+) \|", DIAGNOSIS)

    assert [(int(number), name, int(code)) for number, name, code in found] == [
        (number, name, 10 + number) for number, name in NAMES.items()
    ]
