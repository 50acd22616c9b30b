"""Step 10: the last commits, and a check that the last file reads back as it was written."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

import msgspec

from atlas.core.diagnosis import CheckOutcome
from atlas.core.errors import JSON_ERRORS, FoundryError
from atlas.core.identifiers import format_duration, format_timestamp
from atlas.core.inspection import TransactionInfo
from atlas.core.personal_data import DatasetFile
from atlas.core.rows import COLUMNS, KEYED_COLUMNS
from atlas.diagnose.context import Context

OUR_PREFIX, FILES_MAX = "healthkit/", 10_000  # FILES_MAX takes ten calls
GAP_MAX = timedelta(minutes=15)
READ_BACK_BYTES_MAX = 4 * 1024 * 1024  # a larger file would delay a running service
NEWLINE = b"\n"
MAGIC = b"PAR1"  # at the start and the end of a Parquet file
SEARCHED_TRANSACTIONS = 3  # for one with files of ours


async def check_history(context: Context) -> CheckOutcome:
    facts, branch = context.facts, context.inspectors.branch
    files = await branch.list_files(OUR_PREFIX, FILES_MAX)
    facts.file_counts = Counter(file.path.rpartition(".")[2] for file in files)
    facts.last_commit, committed_files = await find_last_commit(context)
    context.note(*build_evidence(context))
    if overdue := explain_overdue(context):
        return overdue
    candidates = (each for each in committed_files if each.path.endswith((".ndjson", ".parquet")))
    file, reason = next(candidates, None), "No export is overdue; no file was read back."
    if file is not None and file.bytes > READ_BACK_BYTES_MAX:
        context.note(("read back", f"nothing: it has {file.bytes:,} bytes"))
    elif file is not None:
        exists = await branch.find_file(file.path) is not None
        content = await branch.read_file(file.path, file.bytes) if exists else None
        problem = explain_missing(context) if content is None else explain_content(content, file)
        if problem is not None:
            return problem
        context.note(("read back", describe_content(content)))
        if content is not None:
            reason = "The last file reads back as it was written."
    has_old = facts.file_counts["json"] > 0
    remedy = "Remove the old .json files: atlas diagnose --remove-old-json" if has_old else ""
    if facts.last_commit is None:
        reason = "Nothing has been committed yet, and no export is overdue."
    return CheckOutcome("pass", reason, remedy)


async def find_last_commit(
    context: Context,
) -> tuple[TransactionInfo | None, Sequence[DatasetFile]]:
    """Return the last committed transaction that has files of ours, and those files."""
    journal, listed = context.facts.journal, context.facts.transactions
    recorded = journal.last.receipt.transaction if journal and journal.last else None
    committed = [each for each in listed if each.status == "COMMITTED" and each.kind != "DELETE"]
    if recorded is not None and recorded not in {each.rid for each in listed}:
        with suppress(FoundryError):  # the journal may belong to another dataset
            transaction = await context.inspectors.foundry.transaction(recorded)
            committed.insert(SEARCHED_TRANSACTIONS - 1, transaction)
    for transaction in committed[:SEARCHED_TRANSACTIONS]:
        if files := await context.inspectors.foundry.list_files(transaction.rid, OUR_PREFIX):
            return transaction, files
    return None, ()


def build_evidence(context: Context) -> Iterator[tuple[str, str]]:
    facts = context.facts
    for each in facts.transactions[:3]:
        yield each.rid, f"{each.kind} {each.status}, {format_timestamp(each.last_at)}"
    counts = ", ".join(f"{count:,} .{extension}" for extension, count in facts.file_counts.items())
    more = ", and more" if facts.file_counts.total() == FILES_MAX else ""
    yield "files", f"{counts or 'none'}{more}"
    if facts.last_commit is not None:
        at = facts.last_commit.last_at
        yield "last commit", f"{format_timestamp(at)}, {context.format_age(at)} ago"


def explain_overdue(context: Context) -> CheckOutcome | None:
    """Return a failure if exports have waited too long without any commit."""
    journal, last_commit = context.facts.journal, context.facts.last_commit
    if journal is None or journal.oldest is None:
        return None
    if journal.failed_exports >= journal.waiting.exports:
        return None  # step 5 explains why these wait
    gap = context.clock() - journal.oldest
    if last_commit is not None:
        gap = min(gap, context.clock() - last_commit.last_at)
    if gap <= GAP_MAX:
        return None
    remedy = (
        "Steps 6 to 9 pass, so search the log for Failed to upload HealthKit JSON to Foundry "
        "dataset, and restart Atlas."
        if context.is_serving
        else "No service uses this journal. Start Atlas to commit them: atlas serve"
    )
    reason = (
        f"{journal.waiting.exports:,} exports wait, the oldest for "
        f"{context.format_age(journal.oldest)}, and nothing was committed for "
        f"{format_duration(gap.total_seconds())}."
    )
    return CheckOutcome("fail", reason, remedy)


def describe_content(content: bytes | None) -> str:
    if content is None:
        return "nothing: a DELETE transaction removed it"
    if content.startswith(MAGIC):
        return f"{len(content):,} bytes of Parquet"
    is_keyed = f'"{KEYED_COLUMNS[-1]}":'.encode() in content.partition(NEWLINE)[0]
    return (
        f"{content.count(NEWLINE):,} rows of {len(KEYED_COLUMNS if is_keyed else COLUMNS)} columns"
    )


def explain_missing(context: Context) -> CheckOutcome | None:
    """Return a failure if our last file is missing; None if a DELETE removed it deliberately."""
    for each in context.facts.transactions:
        if each == context.facts.last_commit:
            break
        if each.status == "COMMITTED" and each.kind == "DELETE":
            return None
    return CheckOutcome(
        "fail",
        "Our last file is not in the dataset any more: a later transaction replaced everything.",
        "Look in Foundry (the dataset, History) for a SNAPSHOT, and let that build write to another"
        " dataset.",
    )


def explain_content(content: bytes, file: DatasetFile) -> CheckOutcome | None:
    """Return a failure if a file of ours does not have the content that Atlas writes."""
    problem = find_problem(content, file)
    if problem is None:
        return None
    remedy = "The file was changed after the upload: ask the operator of the Foundry stack."
    return CheckOutcome("fail", problem, remedy)


def find_problem(content: bytes, file: DatasetFile) -> str | None:
    if len(content) != file.bytes:
        return f"The last file is {len(content):,} bytes, but listed with {file.bytes:,}."
    if file.path.endswith(".parquet"):
        is_parquet = content.startswith(MAGIC) and content.endswith(MAGIC)
        return None if is_parquet else "The last file is not valid Parquet."
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        except JSON_ERRORS:
            return f"Line {number} of the last file is not a JSON object."
        if tuple(row) not in (COLUMNS, KEYED_COLUMNS):
            return (
                f"Line {number} of the last file does not have our {len(COLUMNS)} or "
                f"{len(KEYED_COLUMNS)} columns."
            )
    return None
