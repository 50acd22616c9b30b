"""Step 4: does Atlas answer at the address that phones use, and do large bodies get through?"""

from datetime import timedelta

from atlas.core.diagnosis import CheckOutcome
from atlas.core.inspection import BlockedBody
from atlas.diagnose.context import Context

MIB = 1024 * 1024
FIRST_BYTES = 2 * MIB  # an app sends about this much every day
MARGIN_BYTES = 1024  # below the limit of Atlas itself
EXPIRES_SOON = timedelta(days=14)


async def check_edge(context: Context) -> CheckOutcome:
    if context.request.url is None and not context.is_serving:
        return CheckOutcome(
            "unknown",
            f"No Atlas runs here with these settings ({context.url}).",
            "Start it (atlas serve), or pass the address that phones use: --url URL",
        )
    endpoint = context.inspectors.endpoint
    health = await endpoint.health()
    context.facts.version = health.version
    context.note(
        ("address", context.url),
        ("version", health.version),
        ("answered in", f"{health.seconds * 1000:.0f} ms"),
        *(
            (f"ready: {name}", "ok" if reason is None else reason)
            for name, reason in health.checks.items()
        ),
    )
    certificate = await endpoint.certificate()
    if certificate is not None:
        context.note(
            ("certificate for", ", ".join(certificate.names[:3])),
            ("certificate until", f"{certificate.expires:%Y-%m-%d}"),
        )
    failing = [f"{name}: {reason}" for name, reason in health.checks.items() if reason is not None]
    if failing:
        return CheckOutcome(
            "fail",
            f"Atlas runs but cannot accept exports now ({failing[0]})",
            "If the journal is full, see step 5. If keys cannot be fetched, see step 2.",
        )
    size_max = context.settings.edge.body_bytes_max
    sizes = sorted({min(FIRST_BYTES, size_max), max(size_max - MARGIN_BYTES, 1)})
    for size in sizes:  # without a token, so that Atlas rejects each body unread
        if blocked := await endpoint.probe_body(size):
            return explain_blocked(context, blocked)
    if certificate is not None and certificate.expires - context.clock() < EXPIRES_SOON:
        return CheckOutcome("fail", "The certificate expires soon.", "Renew it.")
    context.note(("bodies", f"get through up to {sizes[-1] / MIB:.0f} MiB"))
    return CheckOutcome("pass", "Atlas answers, and large bodies get through.")


def explain_blocked(context: Context, blocked: BlockedBody) -> CheckOutcome:
    """Return the outcome for a body that did not reach Atlas."""
    size = f"{blocked.bytes / MIB:.0f} MiB"
    server = blocked.server or "an unnamed server"
    answer = "the connection is cut" if blocked.status is None else str(blocked.status)
    context.note(("a body of", f"{size}: {answer}, by {server}"))
    if blocked.status == 413:
        return CheckOutcome(
            "fail",
            f"A proxy in front of Atlas refuses bodies of {size} (413).",
            "Raise its limit to that of Atlas, 32m. nginx: client_max_body_size 32m; for an ingress"
            " the annotation nginx.ingress.kubernetes.io/proxy-body-size: 32m",
        )
    if blocked.status is None:
        return CheckOutcome(
            "fail",
            f"A body of {size} does not get through: the connection is cut.",
            "Look for a limit on size or time in the proxies in front of Atlas.",
        )
    return CheckOutcome(
        "fail",
        f"A body of {size} does not reach Atlas: something else answers {blocked.status}.",
        "Check the log of the proxy in front: a limit, a time-out, or a wrong port of Atlas.",
    )
