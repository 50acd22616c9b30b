"""Steps 1 to 3: our clock, who issues tokens, and a token that was given."""

from atlas.core.diagnosis import Amiss, Evidence, Finding, failed, passed, unknown
from atlas.diagnose.asking import Asking, plain

LEEWAY_SECONDS = 30.0  # of tokens


async def clock(asking: Asking) -> Finding:
    """By what Auth0 and Foundry say the time is."""
    await ask_both(asking)
    sources = asking.sources
    heard = {"Auth0": sources.issuer.ahead_seconds(), "Foundry": sources.access.ahead_seconds()}
    known = {name: ahead for name, ahead in heard.items() if ahead is not None}
    evidence = tuple((name, difference(ahead)) for name, ahead in heard.items())
    off = [name for name, ahead in known.items() if abs(ahead) > LEEWAY_SECONDS]
    if not known:
        return unknown("Nobody has told the time: see steps 2 and 6.", evidence=evidence)
    if not off:
        return passed(f"Our clock is that of {' and '.join(known)}.", evidence)
    if len(off) < len(known):
        return failed(
            f"The clock of {off[0]} is not ours; that of the other is.",
            f"Does a proxy answer in place of {off[0]}? Else tell who runs it.",
            evidence,
        )
    return failed(
        "Our clock is wrong." if len(known) > 1 else f"Our clock is not that of {off[0]}.",
        "Let this machine keep the time (chrony, systemd-timesyncd), and restart Atlas: tokens are "
        "refused by it.",
        evidence,
    )


async def ask_both(asking: Asking) -> None:
    """Any answer tells the time; what else it tells is for steps 2 and 6."""
    learned, sources = asking.learned, asking.sources
    try:
        learned.issued = await sources.issuer.look()
    except Amiss as amiss:
        learned.issued = amiss
    try:
        grant = await sources.access.grant()
        learned.grant_seconds = float(grant.lasts_seconds)
    except Amiss as amiss:
        learned.grant_seconds = amiss


def difference(ahead: float | None) -> str:
    if ahead is None:
        return "has not told the time"
    if abs(ahead) < 1.5:  # a Date has whole seconds
        return "less than 2 s apart"
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} us"


async def issuer(asking: Asking) -> Finding:
    found = asking.learned.issued
    at = (("issuer", plain(asking.settings.auth0.issuer)),)
    if isinstance(found, Amiss):
        return with_more(found, at)
    if found is None:
        return unknown("See step 1.")
    keys = ("keys", f"{found.usable} usable, {found.others} others")
    took = ("answered in", f"{found.seconds * 1000:.0f} ms")
    tls = ("TLS", "certificate believed" if at[0][1].startswith("https") else "none (http)")
    return passed("The issuer has keys.", (*at, keys, tls, took))


def with_more(amiss: Amiss, evidence: Evidence) -> Finding:
    found = amiss.finding
    return Finding(found.verdict, found.reason, (*evidence, *found.evidence), found.to_do)


async def token(asking: Asking) -> Finding:
    """All of it is looked at; the first bad claim names the reason."""
    given = asking.asked.token
    if given is None:
        return unknown("No token was given.", "Give one of a phone: atlas diagnose --token TOKEN")
    issuer, scope = asking.sources.issuer, asking.settings.auth0.required_scope
    sub = issuer.sub_in(given)
    pseudonym = asking.sources.checkup.pseudonym(sub) if sub is not None else ""
    claims = issuer.apart(given, scope, pseudonym)
    marks = {"good": "ok", "bad": "BAD", "unknown": "unknown"}
    evidence = tuple((claim.name, f"{marks[claim.verdict]}: {claim.value}") for claim in claims)
    for claim in claims:
        if claim.verdict == "bad":
            return failed(f"{claim.name}: {claim.reason}", claim.to_do, evidence)
    if any(claim.verdict == "unknown" for claim in claims):
        return unknown("Who has signed it is not known: see step 2.", evidence=evidence)
    return passed("Atlas takes this token.", evidence)
