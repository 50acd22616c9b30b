"""Step 5: is the journal intact and balanced, and does it have space for more?"""

from collections.abc import Callable

from atlas.core.diagnosis import CheckOutcome, Evidence
from atlas.core.inspection import JournalHealth
from atlas.core.phones import sum_ages
from atlas.core.verdict import count_exports
from atlas.diagnose import database
from atlas.diagnose.context import Context

MIB = 1024 * 1024
FREE_SPACE = (
    "Waiting exports are committed when steps 6 to 9 pass. List those that are set aside: atlas "
    "exports list --status set_aside. The limits are journal.exports_max and journal.bytes_max."
)
REPLAY_OR_DISCARD = (
    "List them with their reasons: atlas exports list --status set_aside. After a fix: atlas "
    "exports replay --all; to delete one for good: atlas exports discard ID --yes"
)
WAIT_OR_REPLAY = (
    "List them: atlas exports list --status failed. Atlas keeps retrying. One that fails five "
    "times while others succeed is set aside; retry it with: atlas exports replay ID"
)


async def check_journal(context: Context) -> CheckOutcome:
    health = await context.inspectors.journal.inspect()
    options = context.settings.journal
    if health is None and options.url == "memory:":
        return CheckOutcome(
            "unknown",
            "The journal is in memory, and is lost when its process ends.",
            "Keep it on disk: ATLAS_JOURNAL=sqlite:///var/journal.db",
        )
    if health is None:
        place = "in the database" if options.is_shared else f"at {options.path}"
        reason = f"There is no journal {place} yet."
        return CheckOutcome("unknown", reason, "The first start creates it: atlas serve")
    context.facts.journal = health
    context.note(*build_evidence(context, health))
    for check in JOURNAL_CHECKS:
        if failure := check(health):
            return failure
    shared = health.database
    if health.failed_exports:
        failed = count_exports(health.failed_exports, "has failed and is", "have failed and are")
        return CheckOutcome("warn", f"{failed} retried apart from the others.", WAIT_OR_REPLAY)
    if shared is not None and (warning := database.check_warnings(context, shared)):
        return warning
    is_served = context.is_serving or (shared is not None and bool(shared.replicas))
    if not is_served and health.waiting.exports:
        remedy = "Start Atlas to commit the waiting exports: atlas serve"
        return CheckOutcome("pass", "The journal is intact; no service uses it now.", remedy)
    return CheckOutcome("pass", "The journal is intact.")


def build_evidence(context: Context, health: JournalHealth) -> Evidence:
    free = "" if health.disk_free is None else f"{health.disk_free / MIB:,.0f} MiB"
    minimum = f", at least {health.disk_free_min / MIB:,.0f} MiB" if free else ""
    owner = "this service" if context.is_serving else "no process"
    if health.database is not None:
        replicas = len(health.database.replicas)
        owner = "1 replica" if replicas == 1 else f"{replicas} replicas"
    oldest = "none" if health.oldest is None else f"waits for {context.format_age(health.oldest)}"
    return (
        ("path", f"{health.path}, {health.bytes / MIB:,.1f} MiB, in use by {owner}"),
        *((("note", note)) for note in health.notes),
        ("waiting", f"{health.waiting.exports:,} of {health.capacity.exports:,} exports"),
        ("bytes", f"{health.waiting.bytes / MIB:,.1f} of {health.capacity.bytes / MIB:,.0f} MiB"),
        *(
            database.build_evidence(health.database)
            if health.database is not None
            else (("disk", f"{free} free{minimum}" if free else "none"),)
        ),
        ("oldest", oldest),
        ("failed", f"{health.failed_exports:,} of the waiting exports"),
        *((f"failed: {reason}", f"{count:,}") for reason, count in health.failed.items()),
        ("phones", describe_phones(health, context.settings.operator.quiet_days)),
        ("set aside", f"{health.set_aside.exports:,}"),
        *(
            (f"set aside: {reason}", f"{count:,}")
            for reason, count in health.set_aside_reasons.items()
        ),
    )


def describe_phones(health: JournalHealth, quiet_days: int) -> str:
    """Describe how many of the phones of the last 30 days are quiet."""
    totals = sum_ages(health.phones, quiet_days)
    return f"{totals.phones:,} in 30 days, {totals.quiet:,} of them quiet for {quiet_days} days"


def check_totals(health: JournalHealth) -> CheckOutcome | None:
    if health.actual == (health.waiting, health.set_aside):
        return None
    return CheckOutcome(
        "fail",
        "The journal does not balance: its totals differ from the exports in it.",
        "Replace the disk. At its next start Atlas counts again, and logs Ledger unbalanced.",
    )


def check_settings(health: JournalHealth) -> CheckOutcome | None:
    return None if health.database is None else database.check_defect(health.database)


def check_capacity(health: JournalHealth) -> CheckOutcome | None:
    stored_exports = health.waiting.exports + health.set_aside.exports
    stored_bytes = health.waiting.bytes + health.set_aside.bytes
    if stored_exports >= health.capacity.exports or stored_bytes >= health.capacity.bytes:
        return CheckOutcome("fail", "The journal is full: phones get 503 JOURNAL_FULL.", FREE_SPACE)
    if health.disk_free is not None and health.disk_free < health.disk_free_min:
        return CheckOutcome(
            "fail",
            "The disk of the journal is full: phones get 503 JOURNAL_FULL.",
            "Free space on it, or move the journal to a larger one (ATLAS_JOURNAL).",
        )
    return None


def check_set_aside(health: JournalHealth) -> CheckOutcome | None:
    if not health.set_aside.exports:
        return None
    are_set_aside = count_exports(health.set_aside.exports, "is set aside", "are set aside")
    return CheckOutcome("fail", f"{are_set_aside}, for an operator to decide.", REPLAY_OR_DISCARD)


def check_damage(health: JournalHealth) -> CheckOutcome | None:
    if not health.damaged_copies:
        return None
    return CheckOutcome(
        "fail",
        f"The journal was damaged; {health.damaged_copies[0]} is a copy of it.",
        "Search the log for Journal damaged, replace the disk, and move the copy elsewhere.",
    )


JOURNAL_CHECKS: tuple[Callable[[JournalHealth], CheckOutcome | None], ...] = (
    check_settings,
    check_totals,
    check_capacity,
    check_damage,
    check_set_aside,
)
