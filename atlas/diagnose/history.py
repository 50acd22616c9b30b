"""Step 10: what came into the dataset, when, and do the rows stand there as they were sent?"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import msgspec

from atlas.core.diagnosis import Amiss, Evidence, Finding, failed, passed
from atlas.core.errors import NOT_JSON
from atlas.core.names import lasting, timestamp
from atlas.core.rows import COLUMNS
from atlas.core.sights import FileSeen, TransactionSeen
from atlas.diagnose.asking import Asking

GAP_MAX = timedelta(minutes=15)
READ_BACK_MAX = 4 * 1024 * 1024  # more would hold up a running service
NEWLINE, MAGIC = b"\n", b"PAR1"  # what Parquet begins and ends with
LOOKED_BACK = 3  # transactions, for one with files of ours


async def history(asking: Asking) -> Finding:
    learned, contents = asking.learned, asking.sources.contents
    learned.files = await contents.files()
    learned.committed, ours = await last_of_ours(asking)
    evidence = shown(asking)
    if stuck := waiting_too_long(asking):
        return failed(*stuck, evidence)
    file = next((each for each in ours if each.path.endswith((".ndjson", ".parquet"))), None)
    if file is not None and file.bytes > READ_BACK_MAX:
        evidence = (*evidence, ("read back", f"nothing: it has {file.bytes:,} bytes"))
    elif file is not None:
        content = await contents.content(file)
        if wrong := gone(asking) if content is None else unlike_ours(content, file):
            return failed(*wrong, evidence)
        evidence = (*evidence, ("read back", told(content)))
    old = learned.files.endings.get("json", 0)
    to_do = "atlas diagnose --remove-old-json takes the old .json files out." if old else ""
    if learned.committed is None:
        return passed("Nothing was committed yet, and nothing waits too long.", evidence, to_do)
    return passed("What was sent stands in the dataset.", evidence, to_do)


async def last_of_ours(asking: Asking) -> tuple[TransactionSeen | None, Sequence[FileSeen]]:
    """The last committed transaction with files of ours, and these."""
    condition, known = asking.learned.condition, asking.learned.transactions
    noted = condition.last.receipt.transaction if condition and condition.last else None
    committed = [each for each in known if each.status == "COMMITTED" and each.kind != "DELETE"]
    if noted is not None and noted not in {each.rid for each in known}:
        with suppress(Amiss):  # the journal may be of another dataset
            committed.insert(LOOKED_BACK - 1, await asking.sources.branches.transaction(noted))
    for each in committed[:LOOKED_BACK]:
        if files := await asking.sources.contents.files_in(each.rid):
            return each, files
    return None, ()


def shown(asking: Asking) -> Evidence:
    learned = asking.learned
    found: list[tuple[str, str]] = []
    for each in learned.transactions[:3]:
        told = f"{each.kind} {each.status}, {timestamp(each.last_at)}"
        found.append((each.rid, told))
    if learned.files is not None:
        counts = ", ".join(f"{count:,} .{end}" for end, count in learned.files.endings.items())
        more = "" if learned.files.is_whole else ", and more"
        found.append(("files", f"{counts or 'none'}{more}"))
    if learned.committed is not None:
        at = learned.committed.last_at
        found.append(("last commit", f"{timestamp(at)}, {asking.since(at)} ago"))
    return tuple(found)


def waiting_too_long(asking: Asking) -> tuple[str, str] | None:
    """Exports wait, and none of that time saw a commit."""
    condition, committed = asking.learned.condition, asking.learned.committed
    if condition is None or condition.oldest is None:
        return None
    if condition.failed_exports >= condition.waiting.exports:
        return None  # step 5 says why these wait
    gap = asking.now() - condition.oldest
    if committed is not None:
        gap = min(gap, asking.now() - committed.last_at)
    if gap <= GAP_MAX:
        return None
    to_do = (
        "Steps 6 to 9 pass, so look in the log for Failed to upload HealthKit JSON to Foundry "
        "dataset, and restart Atlas."
        if asking.serves
        else "Nobody serves this journal: start it (atlas serve), and they go out."
    )
    reason = (
        f"{condition.waiting.exports:,} exports wait, the oldest for "
        f"{asking.since(condition.oldest)}, and nothing was committed for "
        f"{lasting(gap.total_seconds())}."
    )
    return reason, to_do


def told(content: bytes | None) -> str:
    if content is None:
        return "nothing: a DELETE transaction took it out"
    if content.startswith(MAGIC):
        return f"{len(content):,} bytes of Parquet"
    return f"{content.count(NEWLINE):,} rows of {len(COLUMNS)} columns"


def gone(asking: Asking) -> tuple[str, str] | None:
    """Whoever takes files out in a DELETE transaction means to; a SNAPSHOT takes all of them."""
    for each in asking.learned.transactions:
        if each == asking.learned.committed:
            break
        if each.status == "COMMITTED" and each.kind == "DELETE":
            return None
    return (
        "The last file of ours stands in the dataset no more: a later transaction replaced all.",
        "Look in Foundry (the dataset, History) for a SNAPSHOT: let that build write elsewhere.",
    )


def unlike_ours(content: bytes, file: FileSeen) -> tuple[str, str] | None:
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
        except NOT_JSON:
            return f"Line {number} of the last file is no JSON object.", to_do
        if tuple(row) != COLUMNS:
            return f"Line {number} of the last file has not the {len(COLUMNS)} columns.", to_do
    return None
