"""Steps 6 to 9: who we are to Foundry, the dataset, its branch, and whether a file goes in."""

from contextlib import suppress

import anyio

from atlas.core.diagnosis import CheckFailed, CheckOutcome
from atlas.core.errors import BranchBusy, FoundryError
from atlas.core.identifiers import format_timestamp
from atlas.diagnose.context import Context, redact_url
from atlas.diagnose.journal import count_exports

PROBE_SECONDS = 30.0  # for the group that is under way, and the probe


async def check_token(context: Context) -> CheckOutcome:
    seconds, target = context.learned.token_seconds, context.settings.foundry
    context.note(("token endpoint", redact_url(target.oauth_token_url)))
    if isinstance(seconds, CheckFailed):
        if seconds.is_outage:
            context.note(*seconds.evidence)
            return CheckOutcome("fail", str(seconds), wait_for_foundry(context))
        raise seconds
    if seconds is None:
        return CheckOutcome("unknown", "See step 1.")
    await context.sources.foundry.check_scopes()
    context.note(
        ("client", target.client_id),
        ("lasts", f"{seconds} s"),
        ("scopes", "may read and write datasets"),
    )
    return CheckOutcome("pass", "Foundry gives us a token that may do what we need.")


def wait_for_foundry(context: Context) -> str:
    """Return what to do while Foundry is down: nothing on our side, and nothing is lost."""
    to_do = "Wait, and look at Foundry's own status; nothing is to be changed here."
    condition = context.learned.condition
    if condition is None or not condition.waiting.exports:
        return to_do
    are_safe = count_exports(condition.waiting.exports, "is", "are")
    started = "" if context.serves else " and Atlas is started (atlas serve)"
    return f"{to_do} {are_safe} safe in the journal, to be committed when Foundry is back{started}."


async def check_dataset(context: Context) -> CheckOutcome:
    sources, target = context.sources, context.settings.foundry
    context.note(("dataset", target.dataset_rid), ("branch", target.branch))
    name, head = await sources.foundry.dataset_name(), (await sources.branch.take_snapshot()).head
    if head:
        seen = await sources.foundry.transaction(head)
        context.learned.open = seen if seen.status == "OPEN" else None
    context.note(("name", name), ("head", head or "no transaction yet"))
    return CheckOutcome("pass", "The dataset and its branch are there.")


async def check_transactions(context: Context) -> CheckOutcome:
    learned = context.learned
    with suppress(FoundryError):  # the list is a preview, which some stacks do not have
        learned.transactions = tuple(await context.sources.foundry.transactions())
    listed = learned.transactions
    if learned.open is None:
        learned.open = next((each for each in listed if each.status == "OPEN"), None)
    if learned.open is None:
        return CheckOutcome("pass", "None is open." if listed else "None is open; none is listed.")
    rid, created = learned.open.rid, learned.open.created
    is_ours = learned.condition is not None and rid in learned.condition.begun
    context.note(
        ("open", rid),
        ("type", learned.open.kind),
        ("since", f"{format_timestamp(created)}, {context.since(created)}"),
        ("whose", "ours" if is_ours else "not noted as ours"),
    )
    if is_ours:
        to_do = "" if context.serves else "It is ended when Atlas is started: atlas serve"
        return CheckOutcome("pass", "One is open, and it is ours.", to_do)
    return CheckOutcome(
        "fail",
        "A transaction of somebody else is open on the branch: nothing can go in.",
        "If it is a build of this dataset, wait for it, and let builds write elsewhere. If nobody "
        "knows it, look at it in Foundry (the dataset, History) and abort it there.",
    )


async def check_probe(context: Context) -> CheckOutcome:
    """Put a file and take it back: nobody ever sees a row of it."""
    maintenance = context.sources.maintenance
    if maintenance is None:
        why = "Another process owns the branch, and does not answer: see step 5."
        return CheckOutcome("unknown", why)
    try:
        with anyio.fail_after(PROBE_SECONDS):
            done = await maintenance.probe()
    except BranchBusy:
        return CheckOutcome("unknown", "Another transaction is open on the branch: see step 8.")
    except FoundryError as error:
        return CheckOutcome("fail", f"A file cannot be put: {error}", error.remedy)
    except TimeoutError:
        why = f"The uploader has not come to it in {PROBE_SECONDS:.0f} s."
        return CheckOutcome("unknown", why, "Try again.")
    context.note(
        ("transaction", f"{done.transaction}, aborted"),
        ("took", f"{done.seconds * 1000:.0f} ms"),
        ("Content-Type", done.content_type),
        *((f"seen: {topic}", value) for topic, value in sorted(done.observations.items())),
    )
    return CheckOutcome("pass", "A file was put, and taken back.")
