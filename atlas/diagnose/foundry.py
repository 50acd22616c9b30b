"""Steps 6 to 9: our token for Foundry, the dataset, its branch, and a trial upload."""

from contextlib import suppress

import anyio

from atlas.core.diagnosis import CheckFailed, CheckOutcome
from atlas.core.errors import BranchBusy, FoundryError
from atlas.core.identifiers import format_timestamp
from atlas.core.inspection import TransactionInfo
from atlas.core.verdict import count_exports
from atlas.diagnose.context import Context, redact_url

RECORDED_SECONDS = 1.0  # until a transaction that was begun is certainly in the journal
PROBE_SECONDS = 30.0  # for the probe, after the group that is in progress


async def check_token(context: Context) -> CheckOutcome:
    seconds, target = context.facts.token_seconds, context.settings.foundry
    context.note(("token endpoint", redact_url(target.oauth_token_url)))
    if isinstance(seconds, CheckFailed):
        if seconds.is_outage:
            context.note(*seconds.evidence)
            return CheckOutcome("fail", str(seconds), advise_waiting(context))
        raise seconds
    if seconds is None:
        return CheckOutcome("unknown", "See step 1.")
    await context.inspectors.foundry.check_scopes()
    context.note(
        ("client", target.client_id),
        ("valid for", f"{seconds} s"),
        ("scopes", "may read and write datasets"),
    )
    return CheckOutcome("pass", "Foundry gives us a token with both scopes.")


def advise_waiting(context: Context) -> str:
    """Return advice for an outage of Foundry: nothing is lost, and nothing is to be changed."""
    advice = "Wait, and check Foundry's own status; there is nothing to change here."
    journal = context.facts.journal
    if journal is None or not journal.waiting.exports:
        return advice
    are_safe = count_exports(journal.waiting.exports, "is safe", "are safe")
    restart = "" if context.is_serving else " and Atlas is started (atlas serve)"
    return f"{advice} {are_safe} in the journal, to be committed when Foundry is back{restart}."


async def check_dataset(context: Context) -> CheckOutcome:
    inspectors, target = context.inspectors, context.settings.foundry
    context.note(("dataset", target.dataset_rid), ("branch", target.branch))
    name = await inspectors.foundry.dataset_name()
    head = (await inspectors.branch.take_snapshot()).head
    if head:
        transaction = await inspectors.foundry.transaction(head)
        context.facts.open_transaction = transaction if transaction.status == "OPEN" else None
    context.note(("name", name), ("head", head or "no transaction yet"))
    return CheckOutcome("pass", "The dataset and its branch exist.")


async def check_transactions(context: Context) -> CheckOutcome:
    facts = context.facts
    with suppress(FoundryError):  # this endpoint is a preview, which some stacks do not have
        facts.transactions = tuple(await context.inspectors.foundry.transactions())
    listed = facts.transactions
    if facts.open_transaction is None:
        facts.open_transaction = next((each for each in listed if each.status == "OPEN"), None)
    if facts.open_transaction is not None and context.is_serving:
        await update_open(context, facts.open_transaction)
    transaction = facts.open_transaction
    if transaction is None:
        return CheckOutcome("pass", "None is open." if listed else "None is open; none is listed.")
    is_ours = is_recorded(context, transaction)
    age = context.format_age(transaction.created)
    context.note(
        ("open", transaction.rid),
        ("type", transaction.kind),
        ("since", f"{format_timestamp(transaction.created)}, {age}"),
        ("owner", "ours" if is_ours else "not recorded as ours"),
    )
    if is_ours:
        remedy = "" if context.is_serving else "Atlas ends it when it is started: atlas serve"
        return CheckOutcome("pass", "A transaction is open, and it is ours.", remedy)
    return CheckOutcome(
        "fail",
        "A transaction of somebody else is open on the branch, which blocks all uploads.",
        "If it is a build of this dataset, wait for it, and let builds write to another dataset. "
        "If nobody recognizes it, abort it in Foundry (the dataset, History).",
    )


def is_recorded(context: Context, transaction: TransactionInfo) -> bool:
    journal = context.facts.journal
    return journal is not None and transaction.rid in journal.open_transactions


async def update_open(context: Context, transaction: TransactionInfo) -> None:
    """Look again at a transaction that is not recorded as ours: it may be younger than step 5."""
    if is_recorded(context, transaction):
        return
    await anyio.sleep(RECORDED_SECONDS)
    context.facts.journal = await context.inspectors.journal.inspect()
    if (await context.inspectors.foundry.transaction(transaction.rid)).status != "OPEN":
        context.facts.open_transaction = None


async def check_probe(context: Context) -> CheckOutcome:
    """Upload a file, and abort its transaction, so that no reader ever sees it."""
    maintenance = context.inspectors.maintenance
    if maintenance is None:
        return CheckOutcome("unknown", "The branch cannot be taken: see step 5.")
    try:
        with anyio.fail_after(PROBE_SECONDS):
            result = await maintenance.probe()
    except BranchBusy:
        return CheckOutcome("unknown", "Another transaction is open on the branch: see step 8.")
    except FoundryError as error:
        return CheckOutcome("fail", f"A file cannot be uploaded: {error}", error.remedy)
    except TimeoutError:
        reason = f"The uploader did not start the probe within {PROBE_SECONDS:.0f} s."
        return CheckOutcome("unknown", reason, "Try again.")
    context.note(
        ("transaction", f"{result.transaction}, aborted"),
        ("took", f"{result.seconds * 1000:.0f} ms"),
        ("Content-Type", result.content_type),
        *((f"seen: {topic}", value) for topic, value in sorted(result.observations.items())),
    )
    return CheckOutcome("pass", "A file was uploaded, and its transaction aborted.")
