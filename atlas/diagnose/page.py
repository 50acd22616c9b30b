"""The page that used to be written by hand when exports had stopped, under the same headings."""

from collections.abc import Sequence

from atlas.core.diagnosis import Evidence, Section, Step
from atlas.core.messages import Entry
from atlas.core.names import API_PREFIX, timestamp
from atlas.diagnose.context import NOT_SET, Context, plain

STATUSES = (
    ("200", "committed: the rows stand in the dataset; drop them on the phone"),
    ("202", "safe with Atlas: it will be committed; ask for the receipt, do not send again"),
    ("207", "some chunks were refused by their own fault: see errors; the others are safe"),
    ("400, 413, 415, 422", "this request will never work: do not repeat it"),
    ("401", "get a fresh token, then send again"),
    ("408, 429, 503", "send the same again after Retry-After; that adds nothing twice"),
)


def sections(context: Context, steps: Sequence[Step], version: str) -> tuple[Section, ...]:
    target, auth0 = context.settings.foundry, context.settings.auth0
    return (
        Section("Service", service(context, version)),
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
                ("Foundry", plain(target.host)),
                ("dataset", target.dataset_rid),
                ("branch", target.branch),
                ("files", f"{target.file_format}, {target.file_layout}"),
            ),
        ),
        Section(
            "Authentication",
            (
                ("issuer", plain(auth0.issuer)),
                ("audience", auth0.audience),
                ("scope", auth0.required_scope or "none is required"),
                ("Foundry client", target.client_id or NOT_SET),
            ),
        ),
        Section("App", app(context)),
        Section("Last successful upload", last_upload(context)),
        Section("Gap since", gap(context)),
        Section("Next steps", next_steps(steps)),
    )


def service(context: Context, version: str) -> Evidence:
    runs = "runs" if context.serves else "does not run with these settings"
    there = f"version {known(context.learned.version)}"
    return (("Atlas", f"{version}, {runs}"), ("at the address", there))


def app(context: Context) -> Evidence:
    return (
        ("login", f"with the audience {context.settings.auth0.audience}; send the access token"),
        ("body", '{"rawhealthkit": "<base64 of NDJSON>"}, as application/json'),
        *STATUSES,
        ("refused since the start", refused(context)),
    )


def refused(context: Context) -> str:
    if not context.serves:
        return "not known: no service runs"
    if not context.refusals:
        return "nothing"
    return ", ".join(f"{count:,} {code}" for code, count in context.refusals)


def last_upload(context: Context) -> Evidence:
    """What the journal knows of it, and when Foundry closed its transaction."""
    committed, condition = context.learned.committed, context.learned.condition
    entry = condition.last if condition is not None else None
    if entry is not None:
        return noted(context, entry)
    if committed is None:
        return (("result", "none is known"),)
    return (
        ("time", timestamp(committed.last_at)),
        ("transaction", committed.rid),
        ("result", "committed; this journal does not know of what"),
    )


def noted(context: Context, entry: Entry) -> Evidence:
    receipt, learned = entry.receipt, context.learned
    there = [*learned.transactions, *([learned.committed] if learned.committed else [])]
    seen = next((each for each in there if each.rid == receipt.transaction), None)
    at = f"{timestamp(receipt.at)} (accepted)" if seen is None else timestamp(seen.last_at)
    return (
        ("time", at),
        ("records", f"{receipt.ingested:,}, and {receipt.rejected:,} rejected"),
        ("user", entry.user),
        ("transaction", known(receipt.transaction)),
        ("file", known(receipt.path)),
        ("result", "committed" if seen is None else seen.status.lower()),
    )


def known(text: str | None) -> str:
    return "not known" if text is None else text


def gap(context: Context) -> Evidence:
    committed, condition = context.learned.committed, context.learned.condition
    waiting = "not known" if condition is None else f"{condition.waiting.exports:,} exports"
    if committed is None:
        return (("last commit", "none is known"), ("waiting", waiting))
    ago = f"{context.since(committed.last_at)} ago"
    return (("last commit", ago), ("waiting", waiting))


def next_steps(steps: Sequence[Step]) -> Evidence:
    """What fails first is to be mended first; then what is worth doing all the same."""
    failing = [step for step in steps if step.verdict == "fail"]
    others = [step for step in steps if step.verdict != "fail" and step.to_do]
    found = tuple((f"step {step.number}", step.to_do) for step in (*failing, *others) if step.to_do)
    return found or (("nothing", "all that was looked at does its part"),)
