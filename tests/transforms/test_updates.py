"""Updates with late and deleted samples, of files that Atlas has committed, and in Foundry."""

import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import anyio
import msgspec
import pytest

from atlas.core import ndjson, rows
from atlas.outside import parquet
from tests.conftest import ServiceHarness, an_export
from tests.support import generator
from tests.support.exports import NOON
from tests.support.foundry_transforms import FoundryBuilds, foundry_packages
from tests.support.transforms import (
    LATE,
    SOURCE,
    build_in_duckdb,
    deletion,
    find_differences,
    open_tables,
    require_spark,
    sample,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # py4j's
]

REAL = Path(__file__).parents[3] / "shared" / "data" / "watch_2020.ndjson"
FIRST = [
    sample("moves", start="2026-01-05T08:00:00Z"),
    sample("stays", start="2026-01-05T08:00:00Z", ingested_at=LATE, value=2.0),
    sample("alone", start="2026-02-05T08:00:00Z"),
    sample("other", start="2026-03-05T08:00:00Z"),
    sample("untouched", start="2026-04-05T08:00:00Z"),
    sample("undated", start=""),
]
SECOND = [
    sample("moves", start="2026-03-05T09:00:00Z", ingested_at=LATE),
    sample("stays", start="2026-01-05T08:00:00Z", value=1.0),  # older than what there is
    deletion("alone"),
    deletion("comes later"),
    sample("late", start="2020-05-05T08:00:00Z"),
]
THIRD = [
    sample("comes later", start="2026-04-05T08:00:00Z", ingested_at=LATE),
    sample("alone", start="2026-02-05T08:00:00Z", ingested_at=LATE),
]


def files_of(run, month):
    return {path.name for path in (run.out / "samples" / f"month={month}").glob("*.parquet")}


def test_an_update_touches_the_months_of_new_replaced_and_deleted_samples(run):
    run.put_rows("1.ndjson", *FIRST)
    assert run.update() == "1 new files; all months rewritten."
    untouched = files_of(run, "2026-04")

    run.put_rows("2.ndjson", *SECOND)
    assert run.update() == "1 new files; months: 2020-05, 2026-01, 2026-02, 2026-03 rewritten."
    assert run.differences() == run.violations() == {}
    assert files_of(run, "2026-04") == untouched
    assert not (run.out / "samples" / "month=2026-02").exists()

    run.put_rows("3.ndjson", *THIRD)
    assert run.update() == "1 new files; no month rewritten."
    assert run.differences() == {}
    assert run.update() == "There are no new files."


def test_a_changed_file_an_interrupted_update_and_another_zone_build_all_anew(run):
    run.put_rows("1.ndjson", *FIRST)
    run.put_rows("2.ndjson", *SECOND)
    run.update()

    run.put_rows("1.ndjson", *FIRST[1:])  # a person was erased
    assert run.update() == "2 new files; all months rewritten."
    assert run.differences() == {}

    (run.out / "state.json").unlink()  # as while the tables change
    (run.out / "samples" / "month=2026-03").rename(run.out / "new")
    assert run.update() == "2 new files; all months rewritten."
    assert run.differences() == {}

    run.zone = "Asia/Tokyo"
    assert run.update() == "2 new files; all months rewritten."
    assert run.differences() == {}


def test_a_line_that_is_no_row_is_an_error_and_the_tables_stay(run):
    run.put_rows("1.ndjson", *FIRST)
    run.update()
    run.put("2.ndjson", b'{"uuid": "torn')

    with pytest.raises(Exception, match="MALFORMED_RECORD"):
        run.update()
    assert run.query("SELECT count(*) FROM samples") == [(6,)]
    (run.raw / "2.ndjson").unlink()
    assert run.update() == "There are no new files."


async def commit(run, folder, layout, format, *exports, hours=0):
    """Commit exports through the real flow, and copy the dataset's files."""
    harness = ServiceHarness(
        run.folder / f"journal of {folder}",
        layout=layout,
        format=format,
        journal_bytes_max=100_000_000,
        now=lambda: NOON + timedelta(hours=hours),
    )
    async with harness.running() as flow, anyio.create_task_group() as tasks:
        for user, content in exports:
            tasks.start_soon(send, flow, user, content)
    for path, content in harness.dataset.files().items():
        run.put(f"{folder}/{path}", content)


async def send(flow, user, content):
    answer = await flow.post(an_export(content, device="iPhone"), token=f"token-of-{user}")
    assert answer.status == 200


def flatten_to_23(seed):
    """Return a file of rows with the two opt-in columns."""
    lines = ndjson.split_lines(generator.export(200, seed), 1)
    header = rows.Header("auth0|23", "iPhone", LATE, LATE)
    return rows.flatten(lines, header, form=rows.RowForm(23)).ndjson


async def test_files_of_all_formats_and_layouts_are_one_dataset(run):
    first, second = generator.export(300, 1), generator.export(300, 2)
    real = REAL.read_bytes() if REAL.exists() else generator.export(300, 3)
    long = b"\n".join(generator.bulky())
    exports = [("auth0|ada", first), ("auth0|zo:e", second), ("auth0|real", real)]
    await commit(run, "a", "per-export", "ndjson", *exports)
    await commit(run, "b", "per-group", "parquet", *exports[:2], ("auth0|long", long))
    run.put("c/23.ndjson", flatten_to_23(4))
    run.put("c/23.parquet", parquet.to_parquet(flatten_to_23(5)))
    run.update()
    assert run.differences() == run.violations() == {}

    with_uuid = (ndjson.split_lines(each, 1) for each in (first, second))
    uuids = [msgspec.json.decode(line)["uuid"] for lines in with_uuid for line in lines[:40]]
    deletions = b"".join(b'{"uuid":"%b"}\n' % uuid.encode() for uuid in uuids)
    late = [("auth0|ada", deletions), ("auth0|zo:e", deletions + generator.export(50, 6))]
    await commit(run, "d", "per-export", "parquet", *late, hours=1)
    again = [("auth0|real", real), ("auth0|ada", first)]
    await commit(run, "e", "per-group", "ndjson", *again, hours=2)
    assert "all months" not in run.update()
    assert run.differences() == run.violations() == {}
    deleted = "SELECT count(*) FROM samples SEMI JOIN deletions USING (auth0_user_id, sample_key)"
    assert run.query(deleted) == [(0,)]


def test_foundry_builds_the_same_tables_all_of_them_and_then_what_is_new(run):
    with foundry_packages():
        (found,) = import_module("healthkit.pipeline").my_pipeline.transforms
    foundry = FoundryBuilds(run.spark, run.folder / "foundry", run.raw)
    run.put_rows("1.ndjson", *FIRST)
    assert not foundry.build(found)
    for name, content in {"2": SECOND, "3": THIRD, "4": [deletion("undated")], "5": ()}.items():
        run.put_rows(f"{name}.ndjson", *content)
        assert foundry.build(found)
        assert find_differences(build_in_duckdb(run.raw, "UTC"), foundry.folder) == {}

    (run.raw / "1.ndjson").unlink()
    assert not foundry.build(found)
    assert find_differences(build_in_duckdb(run.raw, "UTC"), foundry.folder) == {}
    tables = open_tables(foundry.folder)
    assert tables.execute("SELECT uuid FROM samples ORDER BY 1").fetchall() == [
        ("late",),
        ("moves",),
        ("stays",),
    ]


def test_foundry_checks_what_is_expected(spark):
    with foundry_packages():
        (found,) = import_module("healthkit.pipeline").my_pipeline.transforms
    expectations = import_module("healthkit.expectations").EXPECTATIONS

    assert found.outputs.keys() == expectations.keys()
    for name, output in found.outputs.items():
        checks = {check.expectation for check in output.checks}
        assert ("primary_key", *expectations[name].key) in checks
        assert {check.on_error for check in output.checks} == {"FAIL"}


def run_command(raw, out, zone):
    return subprocess.run(
        [sys.executable, "-m", "healthkit", "--raw", raw, "--out", out, "--zone", zone],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_updates_a_folder_and_says_what_it_did(run):
    run.put_rows("1.ndjson", *FIRST)
    done = run_command(run.raw, run.out, "Asia/Tokyo")
    assert (done.returncode, done.stdout) == (0, "1 new files; all months rewritten.\n")
    run.zone = "Asia/Tokyo"
    assert run.differences() == {}


@pytest.mark.parametrize(
    ("raw", "zone", "told"), [("missing", "UTC", "not a folder"), (".", "Mars", "not a time zone")]
)
def test_the_command_refuses_what_it_cannot_use_before_spark_starts(tmp_path, raw, zone, told):
    require_spark()
    done = run_command(tmp_path / raw, tmp_path / "out", zone)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr.splitlines()[-1]
