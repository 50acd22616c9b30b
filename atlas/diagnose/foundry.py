"""Steps 6 to 9: who we are to Foundry, the dataset, its branch, and whether a file goes in."""

from contextlib import suppress

import anyio
import msgspec

from atlas.core.diagnosis import Amiss, Finding, failed, passed, unknown
from atlas.core.errors import BranchBusy, FoundryError
from atlas.core.names import timestamp
from atlas.diagnose.asking import Asking, plain
from atlas.diagnose.auth0 import with_more
from atlas.diagnose.journal import count_exports

PROBE_SECONDS = 30.0  # for the group that is under way, and the probe


async def foundry_token(asking: Asking) -> Finding:
    found, target = asking.learned.grant_seconds, asking.settings.foundry
    at = (("token endpoint", plain(target.oauth_token_url)),)
    if isinstance(found, Amiss):
        finding = with_more(found, at)
        if found.is_outage:
            return msgspec.structs.replace(finding, to_do=wait_for_foundry(asking))
        return finding
    if found is None:
        return unknown("See step 1.")
    await asking.sources.access.scopes()
    evidence = (
        *at,
        ("client", target.client_id),
        ("lasts", f"{found:.0f} s"),
        ("scopes", "may read and write datasets"),
    )
    return passed("Foundry gives us a token that may do what we need.", evidence)


def wait_for_foundry(asking: Asking) -> str:
    """Return what to do while Foundry is down: nothing on our side, and nothing is lost."""
    to_do = "Wait, and look at Foundry's own status; nothing is to be changed here."
    condition = asking.learned.condition
    if condition is None or not condition.waiting.exports:
        return to_do
    are_safe = count_exports(condition.waiting.exports, "is", "are")
    started = "" if asking.serves else " and Atlas is started (atlas serve)"
    return f"{to_do} {are_safe} safe in the journal, to be committed when Foundry is back{started}."


async def dataset(asking: Asking) -> Finding:
    branches, target = asking.sources.branches, asking.settings.foundry
    named = (("dataset", target.dataset_rid), ("branch", target.branch))
    try:
        name, head = await branches.dataset(), await branches.head()
    except Amiss as amiss:
        return with_more(amiss, named)
    if head:
        seen = await branches.transaction(head)
        asking.learned.open = seen if seen.status == "OPEN" else None
    evidence = (("name", name), *named, ("head", head or "no transaction yet"))
    return passed("The dataset and its branch are there.", evidence)


async def transactions(asking: Asking) -> Finding:
    """Is one open, and whose?"""
    with suppress(Amiss):  # to list them is a preview, and not to be had everywhere
        asking.learned.transactions = tuple(await asking.sources.branches.transactions())
    found = asking.learned.transactions
    open_now = asking.learned.open
    if open_now is None:
        open_now = next((each for each in found if each.status == "OPEN"), None)
    if open_now is None:
        return passed("None is open." if found else "None is open; none is listed.")
    asking.learned.open = open_now
    evidence = (
        ("open", open_now.rid),
        ("type", open_now.kind),
        ("since", f"{timestamp(open_now.created)}, {asking.since(open_now.created)}"),
    )
    condition = asking.learned.condition
    if condition is not None and open_now.rid in condition.begun:
        to_do = "" if asking.serves else "It is ended when Atlas is started: atlas serve"
        return passed("One is open, and it is ours.", (*evidence, ("whose", "ours")), to_do)
    return failed(
        "A transaction of somebody else is open on the branch: nothing can go in.",
        "If it is a build of this dataset, wait for it, and let builds write elsewhere. If nobody "
        "knows it, look at it in Foundry (the dataset, History) and abort it there.",
        (*evidence, ("whose", "not noted as ours")),
    )


async def probe(asking: Asking) -> Finding:
    """A file is put and taken back: nobody ever sees a row of it."""
    maintenance = asking.sources.maintenance
    if maintenance is None:
        return unknown("Another process owns the branch, and does not answer: see step 5.")
    try:
        with anyio.fail_after(PROBE_SECONDS):
            done = await maintenance.probe()
    except BranchBusy:
        return unknown("Another transaction is open on the branch: see step 8.")
    except FoundryError as error:
        return failed(f"A file cannot be put: {error}", error.to_do)
    except TimeoutError:
        return unknown(f"The uploader has not come to it in {PROBE_SECONDS:.0f} s.", "Try again.")
    evidence = (
        ("transaction", f"{done.transaction}, aborted"),
        ("took", f"{done.seconds * 1000:.0f} ms"),
        ("Content-Type", done.content_type),
        *((f"seen: {topic}", value) for topic, value in sorted(done.observations.items())),
    )
    return passed("A file was put, and taken back.", evidence)
