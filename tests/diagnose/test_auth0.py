"""Steps 1 to 3: the clock, the token issuer, and a given token."""

import ssl

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import TestServer

from atlas.local.auth0 import ClockSkew, Outage
from atlas.outside.network import explain_unreachable
from tests.diagnose.faults import NOBODY, assert_first_failure, with_options, with_settings
from tests.support.certificates import self_signed
from tests.support.dpop import ABSENT, PUBLIC, Phone, seal
from tests.support.running_system import HOST, first_failing, step

CANARY = "canary-of-a-person"


other_clock = with_options(clock_ahead_seconds=-40)


async def hour_off(system):
    system.foundry.options.clock_ahead_seconds = 3_600
    system.tenant.clock = ClockSkew(3_600)


def outage(status):
    async def change(system):
        system.tenant.outage = Outage(status=status)

    return change


FAULTS = [
    pytest.param(hour_off, 1, "Our clock is wrong", id="our clock is an hour off"),
    pytest.param(other_clock, 1, "clock of Foundry", id="the clock of Foundry is off"),
    pytest.param(with_settings(issuer=""), 2, "AUTH0_DOMAIN is not set", id="no issuer"),
    pytest.param(with_settings(issuer=f"{NOBODY}/"), 2, "cannot be resolved", id="no such issuer"),
    pytest.param(
        with_settings(issuer=f"http://{HOST}:1/"), 2, "refuses", id="nobody listens there"
    ),
    pytest.param(
        with_settings(issuer="nonsense"), 2, "not an address", id="an issuer that is no URL"
    ),
    pytest.param(
        outage("html"), 2, "does not answer with a JWKS (text/html)", id="HTML instead of keys"
    ),
    pytest.param(outage("no keys"), 2, "no usable key", id="keys of another kind"),
    pytest.param(outage("cut"), 2, "before the response was complete", id="the issuer hangs up"),
    pytest.param(outage(404), 2, "no keys at", id="another tenant's name"),
    pytest.param(outage(302), 2, "redirects to", id="the issuer redirects"),
    pytest.param(outage(503), 2, "answers 503", id="the issuer is down"),
]


@pytest.mark.parametrize(("fault", "number", "reason"), FAULTS)
async def test_a_fault_of_the_issuer_is_named(system, fault, number, reason):
    await fault(system)

    await assert_first_failure(system, number, reason)


async def test_a_certificate_that_signs_itself_is_named(system, tmp_path):
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(*self_signed(tmp_path))
    server = TestServer(web.Application(), scheme="https")
    await server.start_server(ssl=there)
    system.issuer = f"https://{HOST}:{server.port}/"
    found = await system.diagnosed()
    await server.close()

    assert first_failing(found) == 2
    assert "self-signed" in step(found, 2).reason
    assert "SSL_CERT_FILE" in step(found, 2).to_do


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (18, "self-signed"),
        (20, "unknown issuer"),
        (10, "has expired"),
        (9, "not valid yet"),
        (62, "another name"),
        (1, "not trusted"),
    ],
)
def test_a_certificate_is_refused_by_kind(code, reason):
    error = ssl.SSLCertVerificationError(1, CANARY)
    error.verify_code = code
    key = ConnectionKey("a.test", 443, True, True, None, None, None)
    amiss = explain_unreachable(
        aiohttp.ClientConnectorCertificateError(key, error), "https://a.test", "AUTH0_DOMAIN"
    )

    assert reason in str(amiss)
    assert CANARY not in str(amiss)


async def test_without_a_token_that_step_is_unknown_and_says_how(system):
    assert step(await system.diagnosed(), 3).verdict == "unknown"
    assert "--token" in step(await system.diagnosed(), 3).to_do


TOKENS = [
    pytest.param({"claims": {"aud": "other"}}, "aud", "another audience", id="another audience"),
    pytest.param({"claims": {"aud": None}}, "aud", "no audience", id="no audience"),
    pytest.param({"claims": {"iss": "https://b.test/"}}, "iss", "custom domain", id="a domain"),
    pytest.param({"expires_in": -7_200}, "exp", "expired 2 hours ago", id="expired"),
    pytest.param({"claims": {"exp": None}}, "exp", "never expires", id="no end"),
    pytest.param({"claims": {"exp": -(10**300)}}, "exp", "expired", id="long ago"),
    pytest.param({"claims": {"exp": "soon"}}, "exp", "never expires", id="an end that is text"),
    pytest.param({"claims": {"nbf": 4e9}}, "nbf", "not valid yet", id="not yet"),
    pytest.param({"claims": {"iat": "now"}}, "iat", "not a time", id="an iat that is text"),
    pytest.param({"claims": {"act": {"sub": "a"}}}, "act", "agent", id="an agent"),
    pytest.param({"key": "stranger"}, "kid", "no key with this name", id="an unknown kid"),
    pytest.param({"header": {"kid": None}}, "kid", "names no key", id="no kid"),
    pytest.param({"header": {"typ": "logout+jwt"}}, "typ", "another kind", id="another kind"),
    pytest.param({"claims": {"nonce": "n"}}, "kind", "ID token", id="an ID token"),
    pytest.param(
        {"claims": {"at_hash": "h", "aud": "app"}}, "kind", "ID token", id="an ID token 2"
    ),
    pytest.param({"claims": {"cnf": {"x5t#S256": "k"}}}, "cnf", "mTLS", id="bound to a key"),
    pytest.param({"sub": None}, "sub", "does not name a user", id="no sub"),
]


@pytest.mark.parametrize(("wish", "name", "reason"), TOKENS)
async def test_a_token_is_taken_apart_and_the_first_bad_claim_is_named(system, wish, name, reason):
    found = await system.diagnosed(system.token(**wish))

    assert first_failing(found) == 3
    assert step(found, 3).reason.startswith(f"{name}: ")
    assert reason in step(found, 3).reason
    assert dict(step(found, 3).evidence)[name].startswith("BAD: ")
    assert step(found, 3).to_do


async def test_an_issuer_that_lacks_only_its_slash_is_told_so(system):
    token = system.token(claims={"iss": system.issuer.rstrip("/")})

    reason = step(await system.diagnosed(token), 3).reason
    assert reason == "iss: Its issuer has no trailing slash."


@pytest.mark.parametrize(
    ("part", "name"),
    [(0, "form"), (1, "form"), (2, "signature")],
    ids=["the header", "the claims", "the signature"],
)
async def test_a_token_that_was_cut_on_its_way_is_told_so(system, part, name):
    parts = system.token().split(".")
    parts[part] = parts[part][: len(parts[part]) // 2 + 1]
    found = await system.diagnosed(".".join(parts))

    assert step(found, 3).reason.startswith(f"{name}: ")


async def test_an_opaque_or_encrypted_or_endless_token_is_told_so(system):
    assert "not a JWT" in step(await system.diagnosed("opaque-and-no-jwt"), 3).reason
    assert "JWE" in step(await system.diagnosed("a.b.c.d.e"), 3).reason
    assert "longer" in step(await system.diagnosed("a" * 20_000), 3).reason


async def test_all_claims_are_looked_at_even_when_the_first_is_bad(system):
    token = system.token(expires_in=-7_200, claims={"aud": "other", "nonce": "n"}, sub=None)
    evidence = dict(step(await system.diagnosed(token), 3).evidence)

    bad = [name for name, value in evidence.items() if value.startswith("BAD")]
    assert bad == ["kind", "aud", "exp", "sub"]
    assert evidence["signature"].startswith("ok")


async def test_a_required_scope_is_looked_for(system):
    system.required_scope = "write:healthkit"
    without = await system.diagnosed(system.token())
    with_it = await system.diagnosed(system.token(claims={"scope": "openid write:healthkit"}))

    assert "required scope" in step(without, 3).reason
    assert step(with_it, 3).verdict == "pass"


async def test_a_token_whose_keys_are_not_to_be_had_is_unknown_unless_it_is_bad_anyway(system):
    token, bad = system.token(), system.token(claims={"aud": "other"})
    system.tenant.outage = Outage()

    assert step(await system.diagnosed(token), 3).verdict == "unknown"
    assert step(await system.diagnosed(bad), 3).verdict == "fail"


async def test_a_token_of_the_tenant_under_another_domain_names_both(system):
    """As during the move to a custom domain: the keys are the same, the issuer is not."""
    token = system.token(claims={"iss": "https://login.example.com/"})
    found = step(await system.diagnosed(token), 3)

    assert (
        found.reason == "iss: It is from our tenant, under another domain (a custom domain of it)."
    )
    assert found.to_do == f"Accept both: AUTH0_ISSUER={system.issuer},https://login.example.com/"


async def test_a_token_of_another_tenant_is_not_called_a_custom_domain(system):
    token = system.token(key="stranger", claims={"iss": "https://login.example.com/"})
    evidence = dict(step(await system.diagnosed(token), 3).evidence)

    assert evidence["kid"].startswith("BAD")
    assert evidence["iss"] == "BAD: https://login.example.com/"


async def test_each_issuer_is_checked(system):
    first = system.issuer
    system.issuer = f"{first}, {NOBODY}/"
    found = await system.diagnosed(system.token())

    assert (first_failing(found), step(found, 3).verdict) == (2, "pass")
    assert "nowhere.invalid" in step(found, 2).reason
    named = [value for name, value in step(found, 2).evidence if name == "issuer"]
    assert named == [first, f"{NOBODY}/"]


async def test_an_iat_ahead_of_our_clock_is_shown_and_accepted(system):
    found = step(await system.diagnosed(system.token(claims={"iat": 4e9})), 3)

    assert found.verdict == "pass"
    assert "ahead of our clock" in dict(found.evidence)["iat"]


PROOFS = [
    pytest.param({}, {}, None, id="good"),
    pytest.param({}, {"htu": "https://other.test/x"}, "proof htu", id="another URL"),
    pytest.param({}, {"htu": ABSENT}, "proof htu", id="no URL"),
    pytest.param({}, {"htm": "PUT"}, "proof htm", id="another method"),
    pytest.param({}, {"ath": "x"}, "proof ath", id="another token"),
    pytest.param({}, {"jti": ABSENT}, "proof jti", id="no jti"),
    pytest.param({}, {"iat": 1}, "proof iat", id="old"),
    pytest.param({}, {"iat": 4e9}, "proof iat", id="ahead"),
    pytest.param({}, {"iat": "now"}, "proof iat", id="no time"),
    pytest.param({}, {"iat": -(10**400)}, "proof iat", id="a time that no float holds"),
    pytest.param({"typ": "JWT"}, {}, "proof typ", id="another typ"),
    pytest.param({"alg": "ES512"}, {}, "proof alg", id="another alg"),
    pytest.param({"jwk": {"kty": "EC"}}, {}, "proof key", id="half a key"),
]


@pytest.mark.parametrize(("header", "claims", "bad"), PROOFS)
async def test_a_proof_is_taken_apart_too(system, header, claims, bad):
    phone = Phone(system.tenant)
    payload = msgspec.json.encode(phone.claims(**claims))
    proof = seal(phone.header(**header), payload, phone.key)
    found = step(await system.diagnosed(phone.token, PUBLIC, proof), 3)

    named = [name for name, value in found.evidence if value.startswith("BAD")]
    assert (found.verdict, named[:1]) == (("fail", [bad]) if bad else ("pass", []))
    assert phone.sub not in str(found)


@pytest.mark.parametrize("proof", ["rubbish", "a.b", "e30.e30", "é.ü.ß", "a.b.c.d"])
async def test_a_text_that_is_no_proof_is_told_so(system, proof):
    found = step(await system.diagnosed(Phone(system.tenant).token, PUBLIC, proof), 3)

    assert found.reason == "proof: It is not a JWT: the header DPoP must have one proof."


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("https://a.test/", "https://a.test/api/v1/healthkit/export"),
        ("https://A.test:443", "https://a.test/api/v1/healthkit/export"),
        ("https://a.test", "https://a.test:443/api/v1/healthkit/export"),
        ("https://a.test/atlas/", "https://a.test/atlas/api/v1/healthkit/export"),
    ],
)
async def test_a_url_and_the_target_of_a_proof_may_be_written_differently(system, base, target):
    phone = Phone(system.tenant)
    proof = seal(phone.header(), msgspec.json.encode(phone.claims(htu=target)), phone.key)

    assert step(await system.diagnosed(phone.token, base, proof), 3).verdict == "pass"


async def test_a_proof_of_an_unbound_token_and_a_missing_nonce_are_told(system):
    phone = Phone(system.tenant)
    bound, phone.token = phone.token, system.token()
    found = step(await system.diagnosed(phone.token, PUBLIC, phone.prove()), 3)
    assert "proof key: The token is not bound to a key" in found.reason

    system.auth0, phone.token = {"dpop_nonce": True}, bound
    found = step(await system.diagnosed(phone.token, PUBLIC, phone.prove(iat=1)), 3)
    assert "proof nonce: It has no nonce" in found.reason


@pytest.mark.parametrize(
    ("mode", "jkt", "reason"), [("off", "k", "auth0.dpop is off"), ("required", "", "required")]
)
async def test_a_token_that_the_setting_refuses_is_told_so(system, mode, jkt, reason):
    system.auth0 = {"dpop": mode}

    assert reason in step(await system.diagnosed(system.token(jkt=jkt)), 3).reason
