"""Step 4: does Atlas answer where phones send to, and does all of a body come through?"""

from datetime import timedelta

from atlas.core.diagnosis import Amiss, Evidence, Finding, failed, passed, unknown
from atlas.core.sights import Certificate, Stopped
from atlas.diagnose.asking import Asking

MIB = 1024 * 1024
FIRST_BYTES, SPARED_BYTES = 2 * MIB, 1024  # an app sends that much every day
EXPIRES_SOON = timedelta(days=14)


async def edge(asking: Asking) -> Finding:
    if asking.asked.url is None and not asking.serves:
        return unknown(
            f"No Atlas runs here with these settings ({asking.url}).",
            "Start it (atlas serve), or name the address that phones use: --url URL",
        )
    front = asking.sources.front
    health = await front.health()
    asking.learned.version = health.version
    evidence: Evidence = (
        ("address", asking.url),
        ("version", health.version),
        ("answered in", f"{health.seconds * 1000:.0f} ms"),
        *((f"ready: {name}", "ok" if why is None else why) for name, why in health.checks.items()),
    )
    certificate = await front.certificate()
    if certificate is not None:
        evidence = (*evidence, *shown(certificate))
    failing = [f"{name}: {why}" for name, why in health.checks.items() if why is not None]
    if failing:
        raise Amiss(
            f"Atlas runs and can accept nothing now ({failing[0]})",
            "A journal without room: step 5. Keys that cannot be had: step 2.",
            evidence,
        )
    stopped, largest = await sent(asking)
    if stopped is not None:
        return in_front(stopped, evidence)
    if certificate is not None and certificate.expires - asking.now() < EXPIRES_SOON:
        return failed("The certificate expires soon.", "Renew it.", evidence)
    bodies = ("bodies", f"come through up to {largest / MIB:.0f} MiB")
    return passed("Atlas answers, and takes what phones send.", (*evidence, bodies))


async def sent(asking: Asking) -> tuple[Stopped | None, int]:
    """Bodies of ever more bytes, without a token: Atlas turns each away, unread."""
    most = asking.settings.edge.body_bytes_max
    sizes = sorted({min(FIRST_BYTES, most), max(most - SPARED_BYTES, 1)})
    for size in sizes:
        stopped = await asking.sources.front.stopped(size)
        if stopped is not None:
            return stopped, size
    return None, sizes[-1]


def in_front(stopped: Stopped, evidence: Evidence) -> Finding:
    size = f"{stopped.bytes / MIB:.0f} MiB"
    by = stopped.server or "something that does not name itself"
    answer = "the connection is cut" if stopped.status is None else str(stopped.status)
    seen = ("a body of", f"{size}: {answer}, by {by}")
    evidence = (*evidence, seen)
    if stopped.status == 413:
        return failed(
            f"A proxy in front of Atlas refuses bodies of {size} (413).",
            "Raise its limit to that of Atlas, 32m. nginx: client_max_body_size 32m; and, of an "
            "ingress, the annotation nginx.ingress.kubernetes.io/proxy-body-size: 32m",
            evidence,
        )
    if stopped.status is None:
        return failed(
            f"A body of {size} does not come through: the connection is cut.",
            "Look for a limit of bytes or of time in whatever stands in front of Atlas.",
            evidence,
        )
    return failed(
        f"A body of {size} does not come as far as Atlas: {stopped.status} is not its answer.",
        "Look at the log of the proxy in front: a limit, a time-out, or a wrong port of Atlas.",
        evidence,
    )


def shown(certificate: Certificate) -> Evidence:
    return (
        ("certificate for", ", ".join(certificate.names[:3])),
        ("certificate until", f"{certificate.expires:%Y-%m-%d}"),
    )
