"""The page that used to be written by hand when exports had stopped, under the same headings."""

from collections.abc import Sequence

from atlas.core.diagnosis import CheckResult, Evidence, Section
from atlas.core.identifiers import API_PREFIX, format_timestamp
from atlas.core.messages import JournalEntry
from atlas.diagnose.context import NOT_SET, Context, redact_url

STATUSES = (
    ("200", "committed: the rows stand in the dataset; drop them on the phone"),
    ("202", "safe with Atlas: it will be committed; ask for the receipt, do not send again"),
    ("207", "some chunks were refused by their own fault: see errors; the others are safe"),
    ("400, 413, 415, 422", "this request will never work: do not repeat it"),
    ("401", "get a fresh token, then send again"),
    ("408, 429, 503", "send the same again after Retry-After; that adds nothing twice"),
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
                ("issuer", redact_url(auth0.issuer)),
                ("audience", auth0.audience),
                ("scope", auth0.required_scope or "none is required"),
                ("Foundry client", target.client_id or NOT_SET),
            ),
        ),
        Section("App", describe_app(context)),
        Section("Last successful upload", describe_last_upload(context)),
        Section("Gap since", describe_commit_gap(context)),
        Section("Next steps", list_next_steps(steps)),
    )


def describe_service(context: Context, version: str) -> Evidence:
    runs = "runs" if context.serves else "does not run with these settings"
    version_text = f"version {or_unknown(context.learned.version)}"
    return (("Atlas", f"{version}, {runs}"), ("at the address", version_text))


def describe_app(context: Context) -> Evidence:
    return (
        ("login", f"with the audience {context.settings.auth0.audience}; send the access token"),
        ("body", '{"rawhealthkit": "<base64 of NDJSON>"}, as application/json'),
        *STATUSES,
        ("refused since the start", describe_refusals(context)),
    )


def describe_refusals(context: Context) -> str:
    if not context.serves:
        return "not known: no service runs"
    if not context.refusals:
        return "nothing"
    return ", ".join(f"{count:,} {code}" for code, count in context.refusals)


def describe_last_upload(context: Context) -> Evidence:
    """What the journal knows of it, and when Foundry closed its transaction."""
    committed, condition = context.learned.committed, context.learned.condition
    entry = condition.last if condition is not None else None
    if entry is not None:
        return describe_entry(context, entry)
    if committed is None:
        return (("result", "none is known"),)
    return (
        ("time", format_timestamp(committed.last_at)),
        ("transaction", committed.rid),
        ("result", "committed; this journal does not know of what"),
    )


def describe_entry(context: Context, entry: JournalEntry) -> Evidence:
    receipt, learned = entry.receipt, context.learned
    candidates = [*learned.transactions, *([learned.committed] if learned.committed else [])]
    transaction = next((each for each in candidates if each.rid == receipt.transaction), None)
    at = (
        f"{format_timestamp(receipt.at)} (accepted)"
        if transaction is None
        else format_timestamp(transaction.last_at)
    )
    return (
        ("time", at),
        ("records", f"{receipt.ingested:,}, and {receipt.rejected:,} rejected"),
        ("user", entry.user),
        ("transaction", or_unknown(receipt.transaction)),
        ("file", or_unknown(receipt.path)),
        ("result", "committed" if transaction is None else transaction.status.lower()),
    )


def or_unknown(text: str | None) -> str:
    return "not known" if text is None else text


def describe_commit_gap(context: Context) -> Evidence:
    committed, condition = context.learned.committed, context.learned.condition
    waiting = "not known" if condition is None else f"{condition.waiting.exports:,} exports"
    if committed is None:
        return (("last commit", "none is known"), ("waiting", waiting))
    ago = f"{context.since(committed.last_at)} ago"
    return (("last commit", ago), ("waiting", waiting))


def list_next_steps(steps: Sequence[CheckResult]) -> Evidence:
    """What fails first is to be mended first; then what is worth doing all the same."""
    failing = [step for step in steps if step.verdict == "fail"]
    advised = [step for step in steps if step.verdict != "fail" and step.to_do]
    remedies = tuple(
        (f"step {step.number}", step.to_do) for step in (*failing, *advised) if step.to_do
    )
    return remedies or (("nothing", "all that was looked at does its part"),)
