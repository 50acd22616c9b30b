"""Step 10: what came into the dataset, when, and do the rows stand there as they were sent?"""

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
from atlas.core.rows import COLUMNS
from atlas.diagnose.context import Context

OURS, FILES_MAX = "healthkit/", 10_000  # in ten calls
GAP_MAX = timedelta(minutes=15)
READ_BACK_MAX = 4 * 1024 * 1024  # more would hold up a running service
NEWLINE, MAGIC = b"\n", b"PAR1"  # what Parquet begins and ends with
LOOKED_BACK = 3  # transactions, for one with files of ours


async def check_history(context: Context) -> CheckOutcome:
    learned, branch = context.learned, context.sources.branch
    files = await branch.list_files(OURS, FILES_MAX)
    learned.endings = Counter(file.path.rpartition(".")[2] for file in files)
    learned.committed, ours = await find_last_commit(context)
    context.note(*build_evidence(context))
    if stuck := find_overdue(context):
        return CheckOutcome("fail", *stuck)
    file = next((each for each in ours if each.path.endswith((".ndjson", ".parquet"))), None)
    if file is not None and file.bytes > READ_BACK_MAX:
        context.note(("read back", f"nothing: it has {file.bytes:,} bytes"))
    elif file is not None:
        is_there = await branch.find_file(file.path) is not None
        content = await branch.read_file(file.path, file.bytes) if is_there else None
        if wrong := find_removal(context) if content is None else find_difference(content, file):
            return CheckOutcome("fail", *wrong)
        context.note(("read back", describe_content(content)))
    old = learned.endings["json"]
    to_do = "atlas diagnose --remove-old-json takes the old .json files out." if old else ""
    if learned.committed is None:
        return CheckOutcome("pass", "Nothing was committed yet, and nothing waits too long.", to_do)
    return CheckOutcome("pass", "What was sent stands in the dataset.", to_do)


async def find_last_commit(
    context: Context,
) -> tuple[TransactionInfo | None, Sequence[DatasetFile]]:
    """Return the last committed transaction with files of ours, and these."""
    condition, known = context.learned.condition, context.learned.transactions
    noted = condition.last.receipt.transaction if condition and condition.last else None
    committed = [each for each in known if each.status == "COMMITTED" and each.kind != "DELETE"]
    if noted is not None and noted not in {each.rid for each in known}:
        with suppress(FoundryError):  # the journal may be of another dataset
            committed.insert(LOOKED_BACK - 1, await context.sources.foundry.transaction(noted))
    for each in committed[:LOOKED_BACK]:
        if files := await context.sources.foundry.files_of(each.rid, OURS):
            return each, files
    return None, ()


def build_evidence(context: Context) -> Iterator[tuple[str, str]]:
    learned = context.learned
    for each in learned.transactions[:3]:
        yield each.rid, f"{each.kind} {each.status}, {format_timestamp(each.last_at)}"
    counts = ", ".join(f"{count:,} .{end}" for end, count in learned.endings.items())
    more = ", and more" if learned.endings.total() == FILES_MAX else ""
    yield "files", f"{counts or 'none'}{more}"
    if learned.committed is not None:
        at = learned.committed.last_at
        yield "last commit", f"{format_timestamp(at)}, {context.since(at)} ago"


def find_overdue(context: Context) -> tuple[str, str] | None:
    """Exports wait, and none of that time saw a commit."""
    condition, committed = context.learned.condition, context.learned.committed
    if condition is None or condition.oldest is None:
        return None
    if condition.failed_exports >= condition.waiting.exports:
        return None  # step 5 says why these wait
    gap = context.now() - condition.oldest
    if committed is not None:
        gap = min(gap, context.now() - committed.last_at)
    if gap <= GAP_MAX:
        return None
    to_do = (
        "Steps 6 to 9 pass, so look in the log for Failed to upload HealthKit JSON to Foundry "
        "dataset, and restart Atlas."
        if context.serves
        else "Nobody serves this journal: start it (atlas serve), and they go out."
    )
    reason = (
        f"{condition.waiting.exports:,} exports wait, the oldest for "
        f"{context.since(condition.oldest)}, and nothing was committed for "
        f"{format_duration(gap.total_seconds())}."
    )
    return reason, to_do


def describe_content(content: bytes | None) -> str:
    if content is None:
        return "nothing: a DELETE transaction took it out"
    if content.startswith(MAGIC):
        return f"{len(content):,} bytes of Parquet"
    return f"{content.count(NEWLINE):,} rows of {len(COLUMNS)} columns"


def find_removal(context: Context) -> tuple[str, str] | None:
    """Whoever takes files out in a DELETE transaction means to; a SNAPSHOT takes all of them."""
    for each in context.learned.transactions:
        if each == context.learned.committed:
            break
        if each.status == "COMMITTED" and each.kind == "DELETE":
            return None
    return (
        "The last file of ours stands in the dataset no more: a later transaction replaced all.",
        "Look in Foundry (the dataset, History) for a SNAPSHOT: let that build write elsewhere.",
    )


def find_difference(content: bytes, file: DatasetFile) -> tuple[str, str] | None:
    """What is wrong with a file of ours, as a reader gets it."""
    to_do = "Somebody has changed what stands there, or Foundry has: ask who runs the stack."
    if len(content) != file.bytes:
        return f"The last file is {len(content):,} bytes, and listed with {file.bytes:,}.", to_do
    if file.path.endswith(".parquet"):
        is_whole = content.startswith(MAGIC) and content.endswith(MAGIC)
        return None if is_whole else ("The last file is no Parquet.", to_do)
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        except JSON_ERRORS:
            return f"Line {number} of the last file is no JSON object.", to_do
        if tuple(row) != COLUMNS:
            return f"Line {number} of the last file has not the {len(COLUMNS)} columns.", to_do
    return None
