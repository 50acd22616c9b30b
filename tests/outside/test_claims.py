"""The next group is found through an index, however many exports are waiting."""

import sqlite3
from contextlib import closing

import pytest

from atlas.outside.journal.capacity import CapacityLimits
from atlas.outside.sqlite import claims
from atlas.outside.sqlite.journal import open_journal
from tests.support.exports import SHELF, export

BOUNDS = CapacityLimits(free_bytes=0)
COUNT = 100_000  # waiting exports
FILL = f"""
    WITH numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < {COUNT})
    INSERT INTO export (id, user, at, ingested, rejected, bytes, moment, label, isolation, turn)
    SELECT n, '', '', 1, 0, 100, n, x'00', CASE WHEN n % 2 THEN 0 ELSE 1 + n / 2 % 4 END, n % 7
    FROM numbers
"""
FAILED = "SELECT rootpage FROM sqlite_schema WHERE name = 'failed'"
NO_CELLS = (
    b"\x0a\0\0\0\0"  # an empty leaf page of an index: https://www.sqlite.org/fileformat2.html
)
PARAMETERS = {"bytes_end": 2**62, "exports_max": 1_000, "bytes_max": 2**40, "isolation": 1}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "journal"
    with open_journal(path, BOUNDS, retention=SHELF):
        pass
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(FILL)
        yield db


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        pytest.param(claims.CLAIM, "mailbox", id="CLAIM"),
        pytest.param(claims.FULL, "mailbox", id="FULL"),
        pytest.param(claims.CLAIM_FAILED, "failed", id="CLAIM_FAILED"),
        pytest.param(claims.NEXT_FAILED, "failed", id="NEXT_FAILED"),
        pytest.param(claims.BACKLOG, "failed", id="BACKLOG"),
    ],
)
def test_those_that_wait_are_read_by_the_index_that_holds_them(full, statement, index):
    plan = [step for *_, step in full.execute(f"EXPLAIN QUERY PLAN {statement}", PARAMETERS)]
    scans = [step for step in plan if step.startswith("SCAN export")]
    assert scans
    assert {step.partition(" USING ")[2].split()[-1] for step in scans} <= {index, "claimed"}


@pytest.mark.parametrize("statement", [claims.CLAIM_FAILED, claims.NEXT_FAILED])
def test_the_line_of_those_that_failed_is_read_in_its_order(full, statement):
    """The first failed export is found without sorting all of them."""
    plan = [step for *_, step in full.execute(f"EXPLAIN QUERY PLAN {statement}", PARAMETERS)]
    at = next(number for number, step in enumerate(plan) if step.startswith("SCAN export"))

    assert "TEMP B-TREE" not in "".join(plan[at + 1 : at + 2])


async def test_what_is_accepted_does_not_touch_the_index_of_those_that_failed(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path, BOUNDS, retention=SHELF):
        pass
    before = page_of_failed(path)
    with open_journal(path, BOUNDS, retention=SHELF) as journal:
        for number in range(50):
            await journal.intake.append(export(number))

    assert page_of_failed(path) == before
    assert before.startswith(NO_CELLS)


def page_of_failed(path):
    with closing(sqlite3.connect(path)) as db:
        (number,) = db.execute(FAILED).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    return path.read_bytes()[(number - 1) * size :][:size]
