"""The layout of files: one per export, or one per group."""

import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from io import BytesIO

import anyio
import msgspec
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas import outside
from atlas.core import rows
from atlas.core.errors import ConfigurationError
from atlas.core.events import ParquetPerExport
from atlas.core.messages import GroupLimits
from atlas.outside import parquet
from atlas.service.extras import describe_missing_extra
from atlas.service.uploads import build_file_policy
from atlas.settings import FoundrySettings, Settings
from tests.conftest import ServiceHarness
from tests.support.fakes import MOMENTS, Barrier, no_answer
from tests.support.generator import lines
from tests.support.journal_states import accept, entries, post_when_idle, uuids

PATH = "healthkit/groups/2026-01-02T12-00-00-000Z"
OWN_PATH = "healthkit/raw/ada/2026-01-02T12-00-00-000Z"
ABC = [b"a", b"b", b"c"]

formats = pytest.mark.parametrize("format", ["ndjson", "parquet"])


def a_group(tmp_path, **more) -> ServiceHarness:
    return ServiceHarness(tmp_path / "journal", layout="per-group", **more)


@formats
async def test_a_group_is_one_file_that_its_receipts_name(tmp_path, format):
    life = a_group(tmp_path, format=format)
    await accept(life, *ABC)
    answers = await post_when_idle(life, *ABC)

    assert {answer["file_path"] for answer in answers} == {f"{PATH}.{format}"}
    assert {answer["file_format"] for answer in answers} == {format}
    assert len({answer["transaction_rid"] for answer in answers}) == 1
    assert life.dataset.files().keys() == {f"{PATH}.{format}"}
    assert uuids(life) == ["a", "b", "c"]


async def test_the_file_of_a_group_is_the_rows_of_its_exports_one_after_the_other(tmp_path):
    each, together = ServiceHarness(tmp_path / "each", layout="per-export"), a_group(tmp_path)
    for life in (each, together):
        await accept(life, *ABC)
        await post_when_idle(life)
    assert len(each.dataset.files()) == 3
    assert b"".join(each.dataset.files().values()) == together.dataset.files()[f"{PATH}.ndjson"]


async def test_the_next_group_has_a_path_of_its_own_in_the_same_millisecond(tmp_path):
    life = a_group(tmp_path)
    for uuid in ABC:
        await accept(life, uuid)
        await post_when_idle(life)
    assert len(life.dataset.files()) == 3
    assert uuids(life) == ["a", "b", "c"]


async def test_files_are_shared_only_while_calls_to_foundry_are_few(tmp_path):
    life = ServiceHarness(tmp_path / "journal")
    for calls, uuid in ((9_000, b"a"), (100, b"b"), (9_000, b"c")):
        life.dataset.calls = calls
        await accept(life, uuid)
        await post_when_idle(life)
    assert [path.split("/")[1] for path in life.dataset.files()] == ["raw", "groups", "raw"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_exports_that_shared_a_file_may_go_with_one_each_the_next_time(tmp_path, moment):
    life = ServiceHarness(tmp_path / "journal")
    life.dataset.calls = 100
    await accept(life, *ABC)

    async def calls_are_many_again():
        life.dataset.calls = 9_000
        await no_answer()

    life.dataset.mishaps[moment] = calls_are_many_again
    await post_when_idle(life)
    assert uuids(life) == ["a", "b", "c"]
    assert len(life.dataset.files()) == (1 if moment == "after commit" else 3)


async def test_parquet_is_written_for_a_group_unless_it_is_said_otherwise(tmp_path):
    life = ServiceHarness(tmp_path / "journal", format="parquet")
    await accept(life, *ABC)
    await post_when_idle(life)
    assert life.dataset.files().keys() == {f"{PATH}.parquet"}


async def test_parquet_of_one_export_stands_where_its_ndjson_would(tmp_path):
    life = ServiceHarness(tmp_path / "journal", layout="per-export", format="parquet")
    (answer,) = await post_when_idle(life, b"a")
    assert answer["file_path"] == "healthkit/raw/ada/2026-01-02T12-00-00-000Z.parquet"
    assert answer["file_format"] == "parquet"
    assert uuids(life) == ["a"]


@formats
@pytest.mark.parametrize("layout", ["per-export", "per-group"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("is_killed", [False, True], ids=["answer lost", "killed"])
async def test_whatever_is_lost_all_is_committed_once(tmp_path, is_killed, moment, layout, format):
    life = ServiceHarness(tmp_path / "journal", layout=layout, format=format)
    await accept(life, *ABC)
    if is_killed:
        life.dataset.mishaps[moment] = gate = Barrier()
        with anyio.fail_after(5):
            async with replace(life, drain_seconds=0).running():
                await gate.reached.wait()
    else:
        life.dataset.mishaps[moment] = no_answer
    await post_when_idle(life)
    assert uuids(life) == ["a", "b", "c"]
    assert life.dataset.open_now() == []


@formats
async def test_what_stands_at_the_path_of_a_group_is_looked_into_export_by_export(tmp_path, format):
    """The file may hold a different group, for example after the journal was restored."""
    life = a_group(tmp_path, format=format)
    await accept(life, b"a", b"b")
    await post_when_idle(life)
    (content,) = life.dataset.files().values()

    again = replace(a_group(tmp_path / "restored", format=format), dataset=life.dataset)
    (tmp_path / "restored").mkdir()
    await accept(again, *ABC)
    assert life.dataset.files() == {f"{PATH}.{format}": content}
    a, b, c = await post_when_idle(again, *ABC)
    assert a["transaction_rid"] == b["transaction_rid"] == "ri.foundry.main.transaction.1"
    assert c["transaction_rid"] != a["transaction_rid"]
    assert uuids(life) == ["a", "b", "c"]


@formats
async def test_one_export_alone_is_found_in_the_file_that_it_once_shared(tmp_path, format):
    life = a_group(tmp_path, format=format)
    await accept(life, *ABC)
    await post_when_idle(life)

    again = replace(life, journal=tmp_path / "another")
    (a,) = await post_when_idle(again, b"a")
    assert a["transaction_rid"] == "ri.foundry.main.transaction.1"
    assert uuids(life) == ["a", "b", "c"]


@formats
@pytest.mark.parametrize("layout", ["per-export", "per-group"])
async def test_a_path_that_is_taken_by_others_costs_nothing(tmp_path, layout, format):
    life = ServiceHarness(tmp_path / "journal", layout=layout, format=format)
    theirs = f"{PATH if layout == 'per-group' else OWN_PATH}.{format}"
    rid = life.dataset.opened(is_ours=False, **{theirs: b'{"uuid":"theirs"}\n'})
    life.dataset.transactions[rid].state = "COMMITTED"
    await accept(life, *ABC)
    await post_when_idle(life)
    del life.dataset.transactions[rid].files[theirs]
    assert uuids(life) == ["a", "b", "c"]
    assert all(each.tries <= 1 for each in await entries(life))


async def test_an_export_that_foundry_refuses_is_found_among_those_that_shared_its_file(tmp_path):
    life = a_group(tmp_path)
    await accept(life, *ABC)
    life.dataset.refuses = {f"{PATH}.ndjson", "healthkit/raw/ada/2026-01-02T12-00-00-001Z.ndjson"}
    a, b, c = await post_when_idle(life, *ABC)
    assert [each["status"] for each in (a, b, c)] == ["committed", "set_aside", "committed"]
    assert uuids(life) == ["a", "c"]


async def test_an_export_that_is_damaged_is_set_aside_and_the_others_share_their_file(tmp_path):
    life = a_group(tmp_path)
    await accept(life, *ABC)
    with closing(sqlite3.connect(life.journal)) as journal, journal:
        journal.execute("UPDATE payload SET sealed = zeroblob(40) WHERE number = 2")
    a, b, c = await post_when_idle(life, *ABC)
    assert [each["status"] for each in (a, b, c)] == ["committed", "set_aside", "committed"]
    assert uuids(life) == ["a", "c"]


async def test_a_group_that_is_full_does_not_wait_for_the_commit_interval(tmp_path):
    life = a_group(tmp_path, interval_seconds=3600.0, group=GroupLimits(exports_max=2))
    await accept(life, *ABC, b"d", b"e")
    async with life.running() as flow:
        with anyio.fail_after(5):
            while len(life.dataset.files()) < 2:
                await anyio.sleep(0.01)
        assert await flow.waiting() == 1


async def test_parquet_of_each_export_is_warned_of(tmp_path):
    for layout, warnings in (("per-export", 1), ("per-group", 0), ("auto", 0)):
        life = ServiceHarness(tmp_path / "journal", layout=layout, format="parquet")
        async with life.running() as flow:
            assert len(flow.seen.of(ParquetPerExport)) == warnings


def test_parquet_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "atlas.outside.parquet", None)
    monkeypatch.delattr(outside, "parquet")
    with pytest.raises(ConfigurationError, match=r"-r config/requirements-parquet\.txt; the image"):
        build_file_policy(Settings(foundry=FoundrySettings(file_format="parquet")))


def test_the_command_that_installs_an_extra_works_in_a_folder_with_spaces(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/home/ada/my atlas/.venv/bin/python")

    message = describe_missing_extra("X", "asyncpg", "postgres")

    assert "In a clone: '/home/ada/my atlas/.venv/bin/pip' install --require-hashes" in message


def test_parquet_is_sorted_by_user_and_start_and_a_value_is_a_number():
    def row(user: str, start: str, value: float | None) -> bytes:
        columns = dict.fromkeys(rows.COLUMNS, "")
        found = columns | {"auth0_user_id": user, "start_date": start, "value_double": value}
        return msgspec.json.encode(found) + b"\n"

    ndjson = row("b", "2026", 1.5) + row("a", "2027", None) + row("a", "2026", 2.0)
    table = pyarrow.parquet.read_table(BytesIO(parquet.to_parquet(ndjson)))
    assert table.schema.names == list(rows.COLUMNS)
    assert {str(field.type) for field in table.schema} == {"string", "double"}
    assert table.schema.field("value_double").type == pa.float64()
    assert table["auth0_user_id"].to_pylist() == ["a", "a", "b"]
    assert table["value_double"].to_pylist() == [2.0, None, 1.5]


def by_uuid(ndjson: bytes) -> list[dict[str, object]]:
    found = [msgspec.json.decode(line) for line in ndjson.splitlines()]
    return sorted(found, key=lambda row: row["uuid"])


HEADER = rows.Header("auth0|ada", "iPhone", "2026-01-02T12:00:00.000Z", "")


@settings(deadline=None)  # the first call loads the Parquet library
@given(seed=st.integers(0, 2**32), count=st.integers(1, 40), columns=st.sampled_from([21, 23]))
def test_parquet_holds_the_rows_that_ndjson_holds(seed, count, columns):
    texts, form = [line.rstrip(b"\n") for line in lines(count, seed)], rows.RowForm(columns)
    ndjson = rows.flatten(texts, HEADER, form=form).ndjson
    found = parquet.to_ndjson(parquet.to_parquet(ndjson))
    assert by_uuid(found) == by_uuid(ndjson)
    assert parquet.to_ndjson(parquet.to_parquet(found)) == found


def test_a_parquet_file_of_rows_with_21_and_with_23_columns_has_23():
    texts = [b'{"uuid":"a","type":"t"}', b'{"uuid":"b"}']
    forms = rows.RowForm(), rows.RowForm(23)
    ndjson = b"".join(rows.flatten(texts, HEADER, form=form).ndjson for form in forms)

    table = pyarrow.parquet.read_table(BytesIO(parquet.to_parquet(ndjson)))
    assert table.schema.names == list(rows.KEYED_COLUMNS)
    assert table.schema.field("is_deleted").type == pa.bool_()
    assert sorted(map(str, table["is_deleted"].to_pylist())) == ["False", "None", "None", "True"]
