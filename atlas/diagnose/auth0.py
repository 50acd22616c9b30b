"""Steps 1 to 3: our clock, the issuer of tokens, and a token that was given."""

from atlas.core.diagnosis import CheckFailed, CheckOutcome
from atlas.diagnose.context import Context, redact_url

LEEWAY_SECONDS = 30.0  # of tokens


async def check_clock(context: Context) -> CheckOutcome:
    """Compare our clock with the Date of any answer of Auth0 and Foundry."""
    await fetch_issuer_and_token(context)
    sources = context.sources
    heard = {
        "Auth0": sources.issuer.measure_clock_skew(),
        "Foundry": sources.foundry.ahead_seconds(),
    }
    known = {name: ahead for name, ahead in heard.items() if ahead is not None}
    context.note(*((name, format_difference(ahead)) for name, ahead in heard.items()))
    off = [name for name, ahead in known.items() if abs(ahead) > LEEWAY_SECONDS]
    if not known:
        return CheckOutcome("unknown", "Nobody has told the time: see steps 2 and 6.")
    if not off:
        return CheckOutcome("pass", f"Our clock is that of {' and '.join(known)}.")
    if len(off) < len(known):
        return CheckOutcome(
            "fail",
            f"The clock of {off[0]} is not ours; that of the other is.",
            f"Does a proxy answer in place of {off[0]}? Else tell who runs it.",
        )
    return CheckOutcome(
        "fail",
        "Our clock is wrong." if len(known) > 1 else f"Our clock is not that of {off[0]}.",
        "Let this machine keep the time (chrony, systemd-timesyncd), and restart Atlas: tokens are "
        "refused by it.",
    )


async def fetch_issuer_and_token(context: Context) -> None:
    """Ask for keys and a token; steps 2 and 6 judge the answers."""
    learned, sources = context.learned, context.sources
    try:
        learned.issued = await sources.issuer.fetch_keys()
    except CheckFailed as amiss:
        learned.issued = amiss
    try:
        learned.token_seconds = await sources.foundry.fetch_token()
    except CheckFailed as amiss:
        learned.token_seconds = amiss


def format_difference(ahead: float | None) -> str:
    if ahead is None:
        return "has not told the time"
    if abs(ahead) < 1.5:  # a Date has whole seconds
        return "less than 2 s apart"
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} us"


async def check_issuer(context: Context) -> CheckOutcome:
    issued, address = context.learned.issued, redact_url(context.settings.auth0.issuer)
    context.note(("issuer", address))
    if isinstance(issued, CheckFailed):
        raise issued
    if issued is None:
        return CheckOutcome("unknown", "See step 1.")
    context.note(
        ("keys", f"{issued.usable} usable, {issued.others} others"),
        ("TLS", "certificate believed" if address.startswith("https") else "none (http)"),
        ("answered in", f"{issued.seconds * 1000:.0f} ms"),
    )
    return CheckOutcome("pass", "The issuer has keys.")


async def check_token(context: Context) -> CheckOutcome:
    """Look at all claims; the first bad one is the reason."""
    token = context.asked.token
    if token is None:
        how = "Give one of a phone: atlas diagnose --token TOKEN"
        return CheckOutcome("unknown", "No token was given.", how)
    issuer, scope = context.sources.issuer, context.settings.auth0.required_scope
    claims = issuer.explain(token, scope, context.sources.checkup.pseudonym)
    marks = {"good": "ok", "bad": "BAD", "unknown": "unknown"}
    context.note(*((claim.name, f"{marks[claim.verdict]}: {claim.value}") for claim in claims))
    for claim in claims:
        if claim.verdict == "bad":
            return CheckOutcome("fail", f"{claim.name}: {claim.reason}", claim.to_do)
    if any(claim.verdict == "unknown" for claim in claims):
        return CheckOutcome("unknown", "Who has signed it is not known: see step 2.")
    return CheckOutcome("pass", "Atlas takes this token.")
