"""The part of step 11 that compares the rows that readers see with the journal's ledger."""

from atlas.core.diagnosis import CheckOutcome
from atlas.core.errors import FoundryError
from atlas.core.inspection import CommittedRows, RowCount
from atlas.diagnose.context import Context

MATCHES = "The schema matches our rows."
REPLACING_KINDS = {"DELETE", "SNAPSHOT"}
SEE_HISTORY = (
    "Look in Foundry (the dataset, History) for a transaction that removed files, and send what is "
    "missing again from the phones."
)
COUNT_BY_SQL = (
    "To have them counted, grant the application the scopes api:sql-queries-execute and "
    "api:sql-queries-read in Foundry."
)


async def check_rows(context: Context) -> CheckOutcome:
    """Compare the number of rows. More rows than committed are no fault: others write, too."""
    journal = context.facts.journal
    committed = CommittedRows() if journal is None else journal.committed
    if not committed.rows:
        return CheckOutcome("pass", MATCHES)
    context.note(("committed", f"{committed.rows:,} rows of {committed.exports:,} exports"))
    try:
        count = await context.inspectors.rows.count(committed.rows)
    except FoundryError as error:
        context.note(("rows", f"not counted: {error}"))
        reason = f"{MATCHES} How many rows a reader sees is not known."
        return CheckOutcome("unknown", reason, COUNT_BY_SQL)
    context.note(("rows", describe_count(count)))
    if count.rows >= committed.rows:
        return CheckOutcome("pass", f"{MATCHES} Readers see every row that was committed.")
    fewer = f"Readers see {count.rows:,} rows, and {committed.rows:,} were committed"
    if explanation := await find_explanation(context, committed):
        return CheckOutcome("unknown", f"{fewer}: {explanation}.", SEE_HISTORY)
    return CheckOutcome("fail", f"{fewer}.", SEE_HISTORY)


def describe_count(count: RowCount) -> str:
    return f"{'at least ' if count.is_minimum else ''}{count.rows:,}, by {count.way}"


async def find_explanation(context: Context, committed: CommittedRows) -> str:
    """Return the reason why fewer rows may be right, or ""."""
    for each in context.facts.transactions:
        if each.status == "COMMITTED" and each.kind in REPLACING_KINDS:
            return f"a {each.kind} transaction has removed files since"
    try:
        await context.inspectors.foundry.transaction(committed.oldest)
    except FoundryError:
        return "some of them perhaps to another dataset"
    return ""
