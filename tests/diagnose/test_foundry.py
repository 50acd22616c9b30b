"""Steps 6 to 11: Foundry credentials, the dataset, its branch, its rows, and read access."""

from types import SimpleNamespace
from typing import get_args

import aiohttp
import anyio
import msgspec
import pytest
from msgspec.structs import replace

from atlas.core.inspection import TransactionInfo
from atlas.diagnose.context import Context
from atlas.diagnose.foundry import check_transactions
from atlas.local.foundry.faults import CallName
from tests.conftest import an_export
from tests.diagnose.faults import (
    NOBODY,
    RAW,
    ROW,
    assert_first_failure,
    fill_journal,
    with_fault,
    with_file,
    with_foreign_transaction,
    with_options,
    with_parquet,
    with_settings,
)
from tests.support.exports import NOON
from tests.support.running_system import first_failing, step


async def with_replaced_files(system):
    system.committed(f"{RAW}.ndjson", b"{}\n")
    system.committed("other.txt", b"", kind="SNAPSHOT")


def with_schema(columns, reader):
    async def put(system):
        url = f"{system.stack_host}/api/v2/datasets/{system.dataset}/putSchema"
        fields = [{"name": name, "type": kind, "nullable": True} for name, kind in columns]
        body = {"schema": {"fieldSchemaList": fields}, "dataframeReader": reader}
        token = system.foundry.issue_token(frozenset({"api:datasets-write"}))
        system.committed("healthkit/raw/ada/a.ndjson", ROW)
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.put(url, json=body, headers=headers) as answer:
                assert answer.status == 200

    return put


FAULTS = [
    pytest.param(with_settings(stack_host=""), 6, "FOUNDRY_HOST is not set", id="no Foundry"),
    pytest.param(with_settings(stack_host=NOBODY), 6, "cannot be resolved", id="no such Foundry"),
    pytest.param(with_settings(client_secret="old"), 6, "does not accept", id="an old secret"),
    pytest.param(with_settings(client_secret=""), 6, "SECRET is not set", id="no secret"),
    pytest.param(
        with_fault("token", "rubbish"), 6, "200 without a token", id="no token in the answer"
    ),
    pytest.param(with_fault("token", "html"), 6, "answers 502", id="HTML instead of a token"),
    pytest.param(
        with_options(withheld_scope="api:datasets-write"), 6, "api:datasets-write", id="a scope"
    ),
    pytest.param(
        with_options(withheld_scope="api:datasets-read"),
        6,
        "api:datasets-read",
        id="another scope",
    ),
    pytest.param(with_options(is_role_revoked=True), 7, "has no role", id="no role"),
    pytest.param(with_settings(branch="develop"), 7, "the branch", id="no such branch"),
    pytest.param(
        with_fault("dataset", "rubbish"), 7, "not from Foundry", id="HTML instead of the dataset"
    ),
    pytest.param(with_fault("branch", status=503), 7, "overloaded", id="Foundry is overloaded"),
    pytest.param(with_foreign_transaction, 8, "somebody else", id="a foreign transaction"),
    pytest.param(with_options(is_reader=True), 9, "give it a role", id="a role that only reads"),
    pytest.param(with_fault("upload", status=403), 9, "cannot be uploaded", id="no upload"),
    pytest.param(with_fault("list", status=400), 10, "answers 400", id="no list of files"),
    pytest.param(
        with_replaced_files, 10, "is not in the dataset any more", id="a SNAPSHOT of others"
    ),
    pytest.param(
        with_file(f"{RAW}.ndjson", b'{"uuid":"a"}\n'),
        *(10, "does not have our 21 or 23 columns"),
        id="other rows",
    ),
    pytest.param(
        with_file(f"{RAW}.ndjson", b"not json\n"),
        *(10, "Line 1 of the last file is not a JSON"),
        id="no rows",
    ),
    pytest.param(
        with_schema([("uuid", "STRING")], "PARQUET"),
        *(11, "Expected Parquet magic number"),
        id="a schema for Parquet over NDJSON",
    ),
    pytest.param(
        with_schema([("uuid", "LONG"), ("more", "STRING")], "CSV"),
        *(11, "with more; and uuid is LONG"),
        id="a schema of other columns",
    ),
    pytest.param(
        with_file("healthkit/groups/a.parquet", b"PAR"),
        *(10, "not valid Parquet"),
        id="no Parquet",
    ),
    pytest.param(with_parquet, 11, "There are Parquet files, but no schema", id="no schema"),
]


@pytest.mark.parametrize(("fault", "number", "reason"), FAULTS)
async def test_a_fault_of_foundry_is_named(system, fault, number, reason):
    await fault(system)

    await assert_first_failure(system, number, reason)
    assert "OPEN" not in system.states() or number == 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rubbish", "html", "torn", "refused", "lost"])
@pytest.mark.parametrize("call", [each for each in get_args(CallName) if each != "delete"])
async def test_whatever_befalls_a_call_is_a_step_and_no_crash(system, call, fault):
    system.committed(f"{RAW}.ndjson", ROW)
    system.fault(call, fault, count=0)
    found = await system.diagnosed()

    assert len(found.steps) == 11
    assert all(each.to_do for each in found.steps if each.verdict == "fail")


async def test_what_needs_a_step_that_fails_says_which(system):
    system.foundry.options.is_role_revoked = True
    found = await system.diagnosed()

    assert {step(found, number).reason for number in (8, 9, 10, 11)} == {"See step 7."}
    assert step(found, 9).verdict == "unknown"


async def test_a_busy_branch_leaves_the_probe_unknown(system):
    await with_foreign_transaction(system)
    found = await system.diagnosed()

    assert (step(found, 9).verdict, step(found, 9).reason) == ("unknown", "See step 8.")
    assert system.states() == ["OPEN"], "what is not ours is never touched"


async def test_a_role_that_only_reads_is_told_which_would_do(system):
    system.foundry.options.is_reader = True

    assert "the role Editor" in step(await system.diagnosed(), 9).to_do


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(with_fault("token", status=503), "answers 503", id="unavailable"),
        pytest.param(with_fault("token", status=429), "answers 429", id="too many"),
        pytest.param(with_fault("token", status=500), "answers 500", id="a bug"),
        pytest.param(with_fault("token", "html"), "answers 502", id="a gateway"),
        pytest.param(
            with_fault("token", "refused", how="504"), "answers 504", id="a gateway's time-out"
        ),
        pytest.param(
            with_fault("token", "latency", seconds=30),
            *("does not answer in time",),
            id="no answer in time",
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_a_foundry_that_is_down_blames_nothing_of_ours_and_says_what_is_safe(
    system, fault, expected
):
    async with fill_journal(system, count=3):
        pass
    await fault(system)
    found = await system.diagnosed()

    seen = step(found, 6)
    assert first_failing(found) == 6
    assert expected in seen.reason
    assert "down or busy" in seen.reason
    assert not {"FOUNDRY_HOST", "FOUNDRY_CLIENT_ID", "FOUNDRY_OAUTH"} & set(seen.to_do.split())
    assert "3 exports are safe in the journal" in seen.to_do
    assert "when Foundry is back and Atlas is started" in seen.to_do


async def test_a_foundry_that_is_down_is_waited_for_by_a_service_that_runs(system):
    async with system.serving() as serving:
        system.fault("any", "status", status=503, count=0)
        sent = await serving.send(an_export(), system.token(), prefer="respond-async")
        found = await serving.diagnosed()

    assert sent.status == 202
    assert "1 export is safe in the journal" in step(found, 6).to_do
    assert step(found, 6).to_do.endswith("to be committed when Foundry is back.")


async def test_a_foundry_that_is_down_while_nothing_waits_is_only_waited_for(system):
    system.fault("token", "status", status=503, count=0)

    assert "journal" not in step(await system.diagnosed(), 6).to_do


@pytest.mark.parametrize(
    ("open_listing", "expected"),
    [("empty", "200 empty"), ("listed", "200 lists its files"), ("not_found", "404 Trans")],
)
async def test_a_probe_tells_what_foundry_was_seen_to_do(system, open_listing, expected):
    behaviour = system.foundry.behaviour
    system.foundry.behaviour = msgspec.structs.replace(behaviour, open_listing=open_listing)
    found = await system.diagnosed()

    evidence = dict(step(found, 9).evidence)
    assert step(found, 9).verdict == "pass"
    assert evidence["seen: open transaction's listing"].startswith(expected)
    assert evidence["seen: answer to abort"] == "200 ABORTED"
    assert {"seen: sizeBytes", "seen: expires_in", "seen: Date header"} <= evidence.keys()


async def test_a_415_is_remembered_and_told(system):
    system.foundry.options.is_strict_about_types = True
    found = await system.diagnosed()

    assert dict(step(found, 9).evidence)["Content-Type"] == "application/octet-stream"


async def test_a_stack_that_lists_no_transactions_is_no_failure(system):
    system.fault("transactions", "status", status=400, count=0)
    found = await system.diagnosed()

    assert step(found, 8).verdict == "pass"
    assert found.exit_code == 0


async def test_an_open_transaction_is_found_without_the_list(system):
    system.fault("transactions", "status", status=400, count=0)
    await with_foreign_transaction(system)

    assert first_failing(await system.diagnosed()) == 8


async def test_a_file_that_somebody_took_out_on_purpose_is_no_failure(system):
    system.committed(f"{RAW}.ndjson", b"{}\n")
    branches = system.foundry.branches
    removal = branches.begin(system.dataset, "master", "DELETE")
    branches.remove(removal, f"{RAW}.ndjson")
    branches.commit(removal)

    assert step(await system.diagnosed(), 10).verdict == "pass"


async def test_old_json_files_are_counted_and_no_failure(system):
    system.committed(f"{RAW}.json", b"[]")
    found = await system.diagnosed()

    assert dict(step(found, 10).evidence)["files"] == "1 .json"
    assert "--remove-old-json" in step(found, 10).to_do
    assert found.exit_code == 0


async def test_a_large_file_is_not_read_back(system):
    system.committed(f"{RAW}.ndjson", b" " * 5_000_000)
    found = await system.diagnosed()

    assert step(found, 10).verdict == "pass"
    assert dict(step(found, 10).evidence)["read back"] == "nothing: it has 5,000,000 bytes"


async def test_a_probe_that_fails_halfway_leaves_nothing_open(system):
    system.fault("upload", "status", status=403)
    await system.diagnosed()

    assert system.states() == ["ABORTED"]
    with anyio.fail_after(5):
        assert step(await system.diagnosed(), 9).verdict == "pass"


@pytest.mark.parametrize(
    ("status", "recorded", "reason"),
    [
        ("OPEN", ("ri.t.1",), "A transaction is open, and it is ours."),
        ("COMMITTED", (), "None is open; none is listed."),
        ("OPEN", (), "A transaction of somebody else is open on the branch"),
    ],
    ids=["recorded since", "ended since", "of somebody else"],
)
async def test_a_transaction_that_began_after_the_journal_was_read_may_be_ours(
    status, recorded, reason
):
    """Under load a group begins at any moment, also in another replica."""
    transaction = TransactionInfo("ri.t.1", "APPEND", "OPEN", NOON)

    async def inspect():
        return SimpleNamespace(open_transactions=recorded)

    async def read_transaction(_):
        return replace(transaction, status=status)

    async def list_transactions():
        return []

    foundry = SimpleNamespace(transaction=read_transaction, transactions=list_transactions)
    inspectors = SimpleNamespace(journal=SimpleNamespace(inspect=inspect), foundry=foundry)
    context = Context(None, None, inspectors, lambda: NOON, is_serving=True)
    context.facts.journal = SimpleNamespace(open_transactions=())
    context.facts.open_transaction = transaction

    outcome = await check_transactions(context)

    assert outcome.reason.startswith(reason)
