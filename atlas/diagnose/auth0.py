"""Steps 1 to 3: our clock, the issuer of tokens, and a phone's token."""

from atlas.core.diagnosis import CheckFailed, CheckOutcome
from atlas.diagnose.context import Context, redact_url

LEEWAY_SECONDS = 30.0  # for the times in tokens
MARKS = {"good": "ok", "bad": "BAD", "unknown": "unknown"}


async def check_clock(context: Context) -> CheckOutcome:
    """Compare our clock with the Date headers of Auth0 and Foundry."""
    await fetch_issuer_and_token(context)
    skews = {
        "Auth0": context.inspectors.issuer.measure_clock_skew(),
        "Foundry": context.inspectors.foundry.ahead_seconds(),
    }
    context.note(*((name, format_skew(skew)) for name, skew in skews.items()))
    known = {name: skew for name, skew in skews.items() if skew is not None}
    differing = [name for name, skew in known.items() if abs(skew) > LEEWAY_SECONDS]
    if not known:
        return CheckOutcome("unknown", "No server has sent its time: see steps 2 and 6.")
    if not differing:
        return CheckOutcome("pass", f"Our clock agrees with {' and '.join(known)}.")
    if len(differing) < len(known):
        return CheckOutcome(
            "fail",
            f"The clock of {differing[0]} differs from ours; that of the other does not.",
            f"Does a proxy answer instead of {differing[0]}? If not, report it to its operator.",
        )
    return CheckOutcome(
        "fail",
        "Our clock is wrong." if len(known) > 1 else f"Our clock differs from {differing[0]}'s.",
        "Synchronize the clock of this machine (chrony, systemd-timesyncd) and restart Atlas: it "
        "rejects valid tokens.",
    )


async def fetch_issuer_and_token(context: Context) -> None:
    """Fetch the issuers' keys and our token, for steps 2 and 6."""
    facts, inspectors = context.facts, context.inspectors
    for issuer in context.settings.auth0.issuers or ("",):
        try:
            facts.issuer_keys[issuer] = await inspectors.issuer.fetch_keys(issuer)
        except CheckFailed as failure:
            facts.issuer_keys[issuer] = failure
    try:
        facts.token_seconds = await inspectors.foundry.fetch_token()
    except CheckFailed as failure:
        facts.token_seconds = failure


def format_skew(skew: float | None) -> str:
    if skew is None:
        return "has not sent its time"
    if abs(skew) < 1.5:  # a Date header has whole seconds
        return "less than 2 s apart"
    return f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} us"


async def check_issuer(context: Context) -> CheckOutcome:
    failures = list[CheckFailed]()
    for issuer, keys in context.facts.issuer_keys.items():
        address = redact_url(issuer)
        context.note(("issuer", address))
        if isinstance(keys, CheckFailed):
            failures.append(keys)
            continue
        context.note(
            ("keys", f"{keys.usable} usable, {keys.others} others"),
            ("TLS", "certificate trusted" if address.startswith("https") else "none (http)"),
            ("answered in", f"{keys.seconds * 1000:.0f} ms"),
        )
    if failures:
        raise failures[0]
    if not context.facts.issuer_keys:
        return CheckOutcome("unknown", "See step 1.")
    is_single = len(context.facts.issuer_keys) == 1
    reason = "The issuer has usable keys." if is_single else "All issuers have usable keys."
    return CheckOutcome("pass", reason)


async def check_token(context: Context) -> CheckOutcome:
    """Check all claims, and those of its proof if there is one; the first bad is the reason."""
    token, proof, inspectors = context.request.token, context.request.proof, context.inspectors
    if token is None:
        remedy = "Pass the token of a phone: atlas diagnose --token TOKEN"
        return CheckOutcome("unknown", "No token was given.", remedy)
    scope = context.settings.auth0.required_scope
    claims = [*inspectors.issuer.explain(token, scope, inspectors.journal.pseudonym)]
    if proof is not None:
        base = context.settings.edge.public_url or context.request.url or ""
        claims += inspectors.issuer.explain_proof(proof, token, base)
    context.note(*((claim.name, f"{MARKS[claim.verdict]}: {claim.value}") for claim in claims))
    for claim in claims:
        if claim.verdict == "bad":
            return CheckOutcome("fail", f"{claim.name}: {claim.reason}", claim.to_do)
    if any(claim.verdict == "unknown" for claim in claims):
        return CheckOutcome("unknown", "The signature cannot be verified: see step 2.")
    is_bound = any(claim.name == "cnf" for claim in claims)
    suffix = ", with a DPoP proof for each request" if is_bound else ""
    return CheckOutcome("pass", f"Atlas accepts this token{suffix}.")
