"""Step 12: the stream beside the dataset, if one is configured."""

from collections.abc import Iterator

from atlas.core.diagnosis import CheckOutcome
from atlas.core.errors import FoundryError
from atlas.core.inspection import StreamInfo
from atlas.core.rows import KEYED_COLUMN_TYPES, KEYED_COLUMNS
from atlas.core.stream import KEY_COLUMNS, StreamBacklog
from atlas.diagnose.context import Context
from atlas.settings import Settings

BEHIND_SECONDS = 300.0  # as in the alert AtlasStreamBehind
SHOWN_MAX = 5
MAKE_ANOTHER = (
    "Create a stream with our columns (atlas foundry make-stream), and set FOUNDRY_STREAM_RID to "
    "its RID."
)
WAIT = (
    "Look for the reason in the log (Nothing can be published to the stream). The dataset is not "
    "affected."
)


def is_configured(settings: Settings) -> bool:
    return bool(settings.stream.rid)


async def check_stream(context: Context) -> CheckOutcome:
    options, stream = context.settings.stream, context.inspectors.stream
    if stream is None:
        return CheckOutcome("unknown", "No stream is configured.")
    context.note(("stream", options.rid), ("branch", options.branch))
    try:
        info = await stream.inspect()
    except FoundryError as error:  # publishing does not require this permission
        await stream.check_writable()
        reason = f"Our client may publish, but the columns of the stream are not known. {error}"
        return CheckOutcome("unknown", reason, error.remedy)
    context.note(
        ("view", info.view),
        ("columns", str(len(info.columns))),
        ("key", ", ".join(info.key) or "none"),
    )
    differences = list(describe_differences(info))
    if differences:
        shown = "; ".join(differences[:SHOWN_MAX])
        reason = f"The stream does not match our records: {shown}."
        return CheckOutcome("fail", reason, MAKE_ANOTHER)
    await stream.check_writable()
    journal = context.facts.journal
    backlog = StreamBacklog() if journal is None else journal.unpublished
    context.note(("backlog", f"{backlog.rows:,} rows, {backlog.bytes:,} bytes"))
    if backlog.oldest is None:
        return CheckOutcome("pass", "The stream has our columns, and no row waits for it.")
    age = context.format_age(backlog.oldest)
    if (context.clock() - backlog.oldest).total_seconds() > BEHIND_SECONDS:
        return CheckOutcome("fail", f"The stream lacks rows that were accepted {age} ago.", WAIT)
    return CheckOutcome("pass", f"The stream has our columns; its oldest missing row is {age} old.")


def describe_differences(info: StreamInfo) -> Iterator[str]:
    if missing := [name for name in KEYED_COLUMNS if name not in info.columns]:
        yield f"it lacks {', '.join(missing[:SHOWN_MAX])}{', ...' * (len(missing) > SHOWN_MAX)}"
    for name, kind in info.columns.items():
        expected = KEYED_COLUMN_TYPES.get(name, kind)
        if kind != expected:
            yield f"{name} is {kind}, not {expected}"
    if set(info.key) != set(KEY_COLUMNS):
        yield f"its key is not {', '.join(KEY_COLUMNS)}, so a repeated row is there twice"
