"""The transform and the diagnostic steps do what the pages say."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from atlas.diagnose import NAMES
from tests.support.documents import block, dataset, sample

ATLAS = Path(__file__).parent.parent / "atlas"
DIAGNOSIS = (ATLAS / "diagnose" / "README.md").read_text(encoding="utf-8")


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
