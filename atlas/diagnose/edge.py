"""Step 4: does Atlas answer where phones send to, and does all of a body come through?"""

from datetime import timedelta

from atlas.core.diagnosis import CheckOutcome
from atlas.core.inspection import BlockedBody
from atlas.diagnose.context import Context

MIB = 1024 * 1024
FIRST_BYTES, SPARED_BYTES = 2 * MIB, 1024  # an app sends that much every day
EXPIRES_SOON = timedelta(days=14)


async def check_edge(context: Context) -> CheckOutcome:
    if context.asked.url is None and not context.serves:
        return CheckOutcome(
            "unknown",
            f"No Atlas runs here with these settings ({context.url}).",
            "Start it (atlas serve), or name the address that phones use: --url URL",
        )
    health = await context.sources.front.health()
    context.learned.version = health.version
    context.note(
        ("address", context.url),
        ("version", health.version),
        ("answered in", f"{health.seconds * 1000:.0f} ms"),
        *((f"ready: {name}", "ok" if why is None else why) for name, why in health.checks.items()),
    )
    certificate = await context.sources.front.certificate()
    if certificate is not None:
        context.note(
            ("certificate for", ", ".join(certificate.names[:3])),
            ("certificate until", f"{certificate.expires:%Y-%m-%d}"),
        )
    failing = [f"{name}: {why}" for name, why in health.checks.items() if why is not None]
    if failing:
        return CheckOutcome(
            "fail",
            f"Atlas runs and can accept nothing now ({failing[0]})",
            "A journal without room: step 5. Keys that cannot be had: step 2.",
        )
    size_max = context.settings.edge.body_bytes_max
    sizes = sorted({min(FIRST_BYTES, size_max), max(size_max - SPARED_BYTES, 1)})
    for size in sizes:  # without a token: Atlas refuses each, unread
        if stopped := await context.sources.front.probe_body(size):
            return explain_stopped(context, stopped)
    if certificate is not None and certificate.expires - context.now() < EXPIRES_SOON:
        return CheckOutcome("fail", "The certificate expires soon.", "Renew it.")
    context.note(("bodies", f"come through up to {sizes[-1] / MIB:.0f} MiB"))
    return CheckOutcome("pass", "Atlas answers, and takes what phones send.")


def explain_stopped(context: Context, stopped: BlockedBody) -> CheckOutcome:
    size = f"{stopped.bytes / MIB:.0f} MiB"
    by = stopped.server or "something that does not name itself"
    answer = "the connection is cut" if stopped.status is None else str(stopped.status)
    context.note(("a body of", f"{size}: {answer}, by {by}"))
    if stopped.status == 413:
        return CheckOutcome(
            "fail",
            f"A proxy in front of Atlas refuses bodies of {size} (413).",
            "Raise its limit to that of Atlas, 32m. nginx: client_max_body_size 32m; and, of an "
            "ingress, the annotation nginx.ingress.kubernetes.io/proxy-body-size: 32m",
        )
    if stopped.status is None:
        return CheckOutcome(
            "fail",
            f"A body of {size} does not come through: the connection is cut.",
            "Look for a limit of bytes or of time in whatever stands in front of Atlas.",
        )
    return CheckOutcome(
        "fail",
        f"A body of {size} does not come as far as Atlas: {stopped.status} is not its answer.",
        "Look at the log of the proxy in front: a limit, a time-out, or a wrong port of Atlas.",
    )
