"""Steps 1 to 3: our clock, the issuer of tokens, and a token that was given."""

from atlas.core.diagnosis import Amiss, Finding
from atlas.diagnose.context import Context, plain

LEEWAY_SECONDS = 30.0  # of tokens


async def check_clock(context: Context) -> Finding:
    """Compare our clock with the Date of any answer of Auth0 and Foundry."""
    await ask_both(context)
    sources = context.sources
    heard = {"Auth0": sources.issuer.ahead_seconds(), "Foundry": sources.foundry.ahead_seconds()}
    known = {name: ahead for name, ahead in heard.items() if ahead is not None}
    context.note(*((name, difference(ahead)) for name, ahead in heard.items()))
    off = [name for name, ahead in known.items() if abs(ahead) > LEEWAY_SECONDS]
    if not known:
        return Finding("unknown", "Nobody has told the time: see steps 2 and 6.")
    if not off:
        return Finding("pass", f"Our clock is that of {' and '.join(known)}.")
    if len(off) < len(known):
        return Finding(
            "fail",
            f"The clock of {off[0]} is not ours; that of the other is.",
            f"Does a proxy answer in place of {off[0]}? Else tell who runs it.",
        )
    return Finding(
        "fail",
        "Our clock is wrong." if len(known) > 1 else f"Our clock is not that of {off[0]}.",
        "Let this machine keep the time (chrony, systemd-timesyncd), and restart Atlas: tokens are "
        "refused by it.",
    )


async def ask_both(context: Context) -> None:
    """Ask for keys and a token; steps 2 and 6 judge the answers."""
    learned, sources = context.learned, context.sources
    try:
        learned.issued = await sources.issuer.look()
    except Amiss as amiss:
        learned.issued = amiss
    try:
        learned.token_seconds = await sources.foundry.fetch_token()
    except Amiss as amiss:
        learned.token_seconds = amiss


def difference(ahead: float | None) -> str:
    if ahead is None:
        return "has not told the time"
    if abs(ahead) < 1.5:  # a Date has whole seconds
        return "less than 2 s apart"
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} us"


async def check_issuer(context: Context) -> Finding:
    issued, address = context.learned.issued, plain(context.settings.auth0.issuer)
    context.note(("issuer", address))
    if isinstance(issued, Amiss):
        raise issued
    if issued is None:
        return Finding("unknown", "See step 1.")
    context.note(
        ("keys", f"{issued.usable} usable, {issued.others} others"),
        ("TLS", "certificate believed" if address.startswith("https") else "none (http)"),
        ("answered in", f"{issued.seconds * 1000:.0f} ms"),
    )
    return Finding("pass", "The issuer has keys.")


async def check_token(context: Context) -> Finding:
    """Look at all claims; the first bad one is the reason."""
    token = context.asked.token
    if token is None:
        how = "Give one of a phone: atlas diagnose --token TOKEN"
        return Finding("unknown", "No token was given.", how)
    issuer, scope = context.sources.issuer, context.settings.auth0.required_scope
    claims = issuer.apart(token, scope, context.sources.checkup.pseudonym)
    marks = {"good": "ok", "bad": "BAD", "unknown": "unknown"}
    context.note(*((claim.name, f"{marks[claim.verdict]}: {claim.value}") for claim in claims))
    for claim in claims:
        if claim.verdict == "bad":
            return Finding("fail", f"{claim.name}: {claim.reason}", claim.to_do)
    if any(claim.verdict == "unknown" for claim in claims):
        return Finding("unknown", "Who has signed it is not known: see step 2.")
    return Finding("pass", "Atlas takes this token.")
