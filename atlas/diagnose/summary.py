"""Summary of a diagnosis, for somebody who investigates why exports do not arrive."""

from collections.abc import Sequence

from atlas.core.diagnosis import CheckResult, Evidence, Section
from atlas.core.identifiers import API_PREFIX, format_timestamp
from atlas.core.messages import JournalEntry
from atlas.diagnose.context import NOT_SET, Context, redact_url

STATUSES = (
    ("200", "committed: the rows are in the dataset; delete them on the phone"),
    ("202", "stored by Atlas, which will commit it; poll the receipt, do not send again"),
    ("207", "some chunks are invalid: see errors; the others are safe"),
    ("400, 413, 415, 422", "this request can never succeed: do not repeat it"),
    ("401", "get a new token, then send again"),
    ("408, 429, 503", "send the same request again after Retry-After; no row is added twice"),
)


def build_sections(
    context: Context, steps: Sequence[CheckResult], version: str
) -> tuple[Section, ...]:
    target, auth0 = context.settings.foundry, context.settings.auth0
    return (
        Section("Service", describe_service(context, version)),
        Section(
            "Endpoints",
            (
                ("exports", f"POST {context.url}{API_PREFIX}/export"),
                ("batches", f"POST {context.url}{API_PREFIX}/export/batch"),
                ("receipts", f"GET {context.url}{API_PREFIX}/exports/ID"),
                ("health", f"GET {context.url}/health/ready"),
            ),
        ),
        Section(
            "Dataset target",
            (
                ("Foundry", redact_url(target.host)),
                ("dataset", target.dataset_rid),
                ("branch", target.branch),
                ("files", f"{target.file_format}, {target.file_layout}"),
            ),
        ),
        Section(
            "Authentication",
            (
                ("issuer", ", ".join(map(redact_url, auth0.issuers)) or NOT_SET),
                ("audience", " or ".join(auth0.audiences)),
                ("scope", auth0.required_scope or "none required"),
                ("Foundry client", target.client_id or NOT_SET),
            ),
        ),
        Section("App", describe_app(context)),
        Section("Last successful upload", describe_last_upload(context)),
        Section("Gap since", describe_commit_gap(context)),
        Section("Next steps", list_next_steps(steps)),
    )


def describe_service(context: Context, version: str) -> Evidence:
    state = "running" if context.is_serving else "not running with these settings"
    version_text = f"version {or_unknown(context.facts.version)}"
    return (("Atlas", f"{version}, {state}"), ("at this address", version_text))


def describe_app(context: Context) -> Evidence:
    audiences = " or ".join(context.settings.auth0.audiences)
    return (
        ("login", f"with the audience {audiences}; send the access token"),
        ("body", '{"rawhealthkit": "<base64 of NDJSON>"}, as application/json'),
        *STATUSES,
        ("refused since the start", describe_refusals(context)),
    )


def describe_refusals(context: Context) -> str:
    if not context.is_serving:
        return "not known: no service is running"
    if not context.refusals:
        return "none"
    return ", ".join(f"{count:,} {code}" for code, count in context.refusals)


def describe_last_upload(context: Context) -> Evidence:
    """Describe the last upload by the journal, or else by Foundry's transactions."""
    last_commit, journal = context.facts.last_commit, context.facts.journal
    if journal is not None and journal.last is not None:
        return describe_entry(context, journal.last)
    if last_commit is None:
        return (("result", "none known"),)
    return (
        ("time", format_timestamp(last_commit.last_at)),
        ("transaction", last_commit.rid),
        ("result", "committed; this journal has no record of its exports"),
    )


def describe_entry(context: Context, entry: JournalEntry) -> Evidence:
    receipt, facts = entry.receipt, context.facts
    known = {each.rid: each for each in (*facts.transactions, facts.last_commit) if each}
    transaction = known.get(receipt.transaction or "")
    time = (
        f"{format_timestamp(receipt.at)} (accepted)"
        if transaction is None
        else format_timestamp(transaction.last_at)
    )
    return (
        ("time", time),
        ("records", f"{receipt.ingested:,}, and {receipt.rejected:,} rejected"),
        ("user", entry.user),
        ("transaction", or_unknown(receipt.transaction)),
        ("file", or_unknown(receipt.path)),
        ("result", "committed" if transaction is None else transaction.status.lower()),
    )


def or_unknown(text: str | None) -> str:
    return "not known" if text is None else text


def describe_commit_gap(context: Context) -> Evidence:
    last_commit, journal = context.facts.last_commit, context.facts.journal
    age = "none known" if last_commit is None else f"{context.format_age(last_commit.last_at)} ago"
    waiting = "not known" if journal is None else f"{journal.waiting.exports:,} exports"
    return (("last commit", age), ("waiting", waiting))


def list_next_steps(steps: Sequence[CheckResult]) -> Evidence:
    """List the remedies of failing steps in their order, then the advice of all other steps."""
    failing = [step for step in steps if step.verdict == "fail"]
    advised = [step for step in steps if step.verdict != "fail" and step.to_do]
    remedies = tuple(
        (f"step {step.number}", step.to_do) for step in (*failing, *advised) if step.to_do
    )
    return remedies or (("nothing", "all checked steps work"),)
