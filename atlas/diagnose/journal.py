"""Step 5: is what was accepted safe, does it balance, and is there room for more?"""

from collections.abc import Callable

from atlas.core.diagnosis import CheckOutcome, Evidence
from atlas.core.inspection import JournalHealth
from atlas.diagnose.context import Context

MIB = 1024 * 1024
MAKE_ROOM = (
    "What waits goes out when steps 6 to 9 pass; what is set aside: atlas exports list "
    "--status set_aside. The bounds are journal.exports_max and journal.bytes_max."
)
SEE_WHY = (
    "See why: atlas exports list --status set_aside. After a fix: atlas exports replay --all; "
    "to discard one: atlas exports discard ID --yes"
)
TRIED_APART = (
    "See them: atlas exports list --status failed. Wait: Atlas goes on trying. What fails five "
    "times while Foundry takes others is set aside, and goes again with: atlas exports replay ID"
)


async def check_journal(context: Context) -> CheckOutcome:
    found = await context.sources.checkup.inspect()
    path = context.settings.journal.path
    if found is None and path is None:
        return CheckOutcome(
            "unknown",
            "A journal in memory is gone with its process.",
            "With ATLAS_JOURNAL=sqlite:///var/journal.db it is kept.",
        )
    if found is None:
        return CheckOutcome(
            "unknown",
            f"There is no journal at {path} yet.",
            "It is made at the first start: atlas serve",
        )
    context.learned.condition = found
    context.note(*build_evidence(context, found))
    for judge in JOURNAL_CHECKS:
        if reason_and_to_do := judge(found):
            return CheckOutcome("fail", *reason_and_to_do)
    if found.failed_exports:
        what = count_exports(found.failed_exports, "has failed and is", "have failed and are")
        return CheckOutcome("warn", f"{what} tried apart from the others.", TRIED_APART)
    if not context.serves and found.waiting.exports:
        to_do = "They go out when it is started: atlas serve"
        return CheckOutcome("pass", "The journal is sound; nobody serves it just now.", to_do)
    return CheckOutcome("pass", "The journal is sound.")


def build_evidence(context: Context, facts: JournalHealth) -> Evidence:
    free = "" if facts.disk_free is None else f"{facts.disk_free / MIB:,.0f} MiB"
    by = "this service" if context.serves else "nobody"
    oldest = facts.oldest
    age = "nothing waits" if oldest is None else f"waits for {context.since(oldest)}"
    least = f", at least {facts.disk_free_min / MIB:,.0f} MiB" if free else ""
    return (
        ("place", f"{facts.place}, {facts.bytes / MIB:,.1f} MiB, held by {by}"),
        *((("note", note)) for note in facts.notes),
        ("waiting", f"{facts.waiting.exports:,} of {facts.room.exports:,} exports"),
        ("bytes", f"{facts.waiting.bytes / MIB:,.1f} of {facts.room.bytes / MIB:,.0f} MiB"),
        ("disk", f"{free} free{least}" if free else "none"),
        ("oldest", age),
        ("failed", f"{facts.failed_exports:,} of those that wait"),
        *((f"failed: {reason}", f"{count:,}") for reason, count in facts.failed.items()),
        ("set aside", f"{facts.set_aside.exports:,}"),
        *((f"set aside: {why}", f"{count:,}") for why, count in facts.aside.items()),
    )


def count_exports(number: int, of_one: str, of_more: str) -> str:
    """Return the number of exports, with the verb that it takes."""
    return f"1 export {of_one}" if number == 1 else f"{number:,} exports {of_more}"


Reason = tuple[str, str] | None


def check_totals(health: JournalHealth) -> Reason:
    if health.counted == (health.waiting, health.set_aside):
        return None
    return (
        "The journal does not balance: other exports are there than it has noted.",
        "Replace the disk. Atlas counts anew when it is started, and says Ledger unbalanced.",
    )


def check_capacity(health: JournalHealth) -> Reason:
    stored_exports = health.waiting.exports + health.set_aside.exports
    size = health.waiting.bytes + health.set_aside.bytes
    if stored_exports >= health.room.exports or size >= health.room.bytes:
        return ("The journal is full: phones get 503 JOURNAL_FULL.", MAKE_ROOM)
    if health.disk_free is not None and health.disk_free < health.disk_free_min:
        return (
            "The disk of the journal is full: phones get 503 JOURNAL_FULL.",
            "Make room on it, or move the journal to a larger one (ATLAS_JOURNAL).",
        )
    return None


def check_set_aside(health: JournalHealth) -> Reason:
    if not health.set_aside.exports:
        return None
    return (f"{health.set_aside.exports:,} exports are set aside, and wait for a person.", SEE_WHY)


def check_damage(health: JournalHealth) -> Reason:
    if not health.copies:
        return None
    return (
        f"The journal was damaged: {health.copies[0]} is what it was.",
        "Look for Journal damaged in the log, replace the disk, and move the copy away.",
    )


JOURNAL_CHECKS: tuple[Callable[[JournalHealth], Reason], ...] = (
    check_totals,
    check_capacity,
    check_damage,
    check_set_aside,
)
