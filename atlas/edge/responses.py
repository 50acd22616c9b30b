"""The answers to senders whose exports are safe."""

from collections.abc import Sequence

from starlette.responses import Response

from atlas.core.errors import Unavailable
from atlas.core.messages import Receipt
from atlas.edge import wire
from atlas.edge.error_responses import ErrorResponses, json

API_PREFIX = "/api/v1/healthkit"


def respond(
    reply: wire.ExportReply | wire.BatchReply,
    outcomes: Sequence[wire.Outcome],
    errors: ErrorResponses,
    whole: str | None = None,
) -> Response:
    """200, 202 or 207, with the headers that tell a client what to do next.

    `whole` is where to look for it, if not at the first that is not committed.
    """
    status, headers = wire.status_of(outcomes), dict[str, str]()
    safe = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    if safe and len(safe) == len(outcomes) and all(each.replayed for each in safe):
        headers["Idempotency-Replayed"] = "true"
    if status == 202:
        waits = next(each for each in safe if each.status != "committed")
        headers["Location"] = f"{API_PREFIX}/exports/{whole or waits.id}"
        headers["Retry-After"] = str(errors.retry_after(Unavailable()))
    return json(reply, status, headers)
