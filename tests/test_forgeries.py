"""The real service rejects every forged token with the same response, and reads no body.

tests/outside/test_auth0.py covers the rule of the adapter that rejects each token.
"""

import msgspec
import pytest
from joserfc.jwk import ECKey, RSAKey

from atlas.core.errors import InvalidToken, ProofRequired, SenderConstrainedToken, TokenExpired
from atlas.core.identifiers import API_PREFIX
from atlas.local.auth0 import TokenRequest
from tests.conftest import Answer, ServiceHarness, an_export
from tests.support.token_forgery import (
    EVES,
    MARK,
    NEXT,
    OURS,
    SUB,
    a_scene,
    by_another,
    cut,
    edited,
    encrypted,
    flat,
    issue_with,
    make_512_bit_key,
    named,
    payload_of,
    said,
    sign_as_attacker,
    sign_twice,
    sign_with_public_key,
    text64,
    with_a_short_key,
    with_duplicate_name,
    with_raw_claim,
)


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(None)


FORGERIES = {
    "none": lambda good, _: edited(good, 0, alg="none").rpartition(".")[0] + ".",
    "None, with a signature": said(0, alg="None"),
    "HS256 by the PEM": lambda good, _: sign_with_public_key(good, OURS.as_pem(private=False)),
    "HS256 by the DER": lambda good, _: sign_with_public_key(good, OURS.as_der(private=False)),
    "HS256 by the JWK": lambda good, _: sign_with_public_key(
        good, msgspec.json.encode(OURS.as_dict(private=False))
    ),
    "HS256 by nothing": lambda good, _: sign_with_public_key(good, b""),
    "PS256 by the same key": by_another("PS256"),
    "RS512 by the same key": by_another("RS512"),
    "ES256 under our name": by_another("ES256", ECKey.generate_key("P-256")),
    "another iss": issue_with(claims={"iss": "https://canary.test/"}),
    "iss in a list": lambda _, scene: scene.issue_raw_claim("iss", f'["{scene.tenant.issuer}"]'),
    "another aud": issue_with(claims={"aud": "https://canary.test"}),
    "our aud among no texts": with_raw_claim("aud", '["https://api.atlas.ai", 7]'),
    "another typ": issue_with(header={"typ": "logout+jwt"}),
    "typ in a list": lambda good, scene: scene.signed(payload_of(good), typ=["JWT"]),
    "exp as text": with_raw_claim("exp", '"9999999999"'),
    "exp true": with_raw_claim("exp", "true"),
    "exp in a list": with_raw_claim("exp", "[9999999999]"),
    "exp without end": with_raw_claim("exp", "1e400"),
    "exp no number": with_raw_claim("exp", "NaN"),
    "exp that no float holds": with_raw_claim("exp", "9" * 400),
    "exp of 5,000 digits": with_raw_claim("exp", "9" * 5_000),
    "claims 20,000 deep": with_raw_claim("deep", "[" * 20_000 + "]" * 20_000),  # few for 3.13
    "claims in a list": lambda good, scene: scene.signed(b"[%s]" % payload_of(good)),
    "no kid": issue_with(header={"kid": None}),
    "kid of a path": named("../../../dev/canary"),
    "kid of a URL": named("https://canary.test/.well-known/jwks.json"),
    "kid of SQL": named("canary' UNION SELECT 'key' --"),
    "kid of 10 KB": named(MARK * 1_700),
    "kid with NUL": named(f"{OURS.kid}\0{MARK}"),
    "kid in a list": named([OURS.kid]),
    "jku": lambda good, scene: sign_as_attacker(
        good, scene, jku=f"{scene.eve.issuer}.well-known/jwks.json"
    ),
    "x5u": lambda good, scene: sign_as_attacker(good, scene, x5u=scene.eve.issuer),
    "x5c": lambda good, scene: sign_as_attacker(
        good, scene, x5c=[text64(EVES.as_der(private=False))]
    ),
    "jwk": lambda good, scene: sign_as_attacker(good, scene, jwk=EVES.as_dict(private=False)),
    "jku under a good signature": issue_with(header={"jku": "https://canary.test/"}),
    "x5u under a good signature": issue_with(header={"x5u": "https://canary.test/"}),
    "x5c under a good signature": issue_with(header={"x5c": [MARK]}),
    "jwk under a good signature": issue_with(header={"jwk": EVES.as_dict(private=False)}),
    "iss of hers": lambda _, scene: scene.eve.issue_token(TokenRequest(sub=SUB)),
    "crit": lambda good, scene: scene.signed(payload_of(good), crit=["exp"]),
    "b64": lambda good, scene: scene.signed(payload_of(good), b64=False, crit=["b64"]),
    "an ID token": issue_with(claims={"nonce": MARK}),
    "100 KB": issue_with(claims={"more": "x" * 75_000}),
    "a key of 512 bits": with_a_short_key(make_512_bit_key),
    "a key of 1,024 bits": with_a_short_key(lambda: RSAKey.generate_key(1024, {"kid": MARK})),
    "a JWE": encrypted,
    "two signatures": sign_twice,
    "JSON serialisation": flat,
    "no signature": lambda good, _: good.rpartition(".")[0] + ".",
    "another payload": said(1, sub=f"{SUB}-2"),
    "another header": said(0, typ="at+jwt"),
    "padding": lambda good, _: good + "==",
    "a line end": cut("\n"),
    "a space": cut(" "),
    "not ASCII": cut("é"),
    "NUL": cut("\0"),
    "another last bit": lambda good, _: good[:-1] + chr(ord(good[-1]) + 1),
    "sub twice": with_duplicate_name(1, b'"sub":"auth0|canary-2"'),
    "alg twice": with_duplicate_name(0, b'"alg":"none"'),
    "sub a number": with_raw_claim("sub", "7"),
    "sub true": with_raw_claim("sub", "true"),
    "sub in a list": with_raw_claim("sub", f'["{SUB}"]'),
    "sub of an object": with_raw_claim("sub", f'{{"{SUB}": 1}}'),
    "sub null": with_raw_claim("sub", "null"),
}
EXPIRED = {
    "yesterday": issue_with(expires_in=-86_400),
    "before there was time": with_raw_claim("exp", "-1"),
    "at a fraction": with_raw_claim("exp", "1.5"),
}
BOUND = {
    "mTLS": issue_with(claims={"cnf": {"x5t#S256": MARK}}),
    "to nothing": issue_with(claims={"cnf": {}}),
    "in another shape": with_raw_claim("cnf", f'["{MARK}"]'),
}
STRIPPED = {"DPoP": issue_with(claims={"cnf": {"jkt": MARK}})}
KINDS = (
    (FORGERIES, InvalidToken),
    (EXPIRED, TokenExpired),
    (BOUND, SenderConstrainedToken),
    (STRIPPED, ProofRequired),
)
TABLE = [pytest.param(forge, error, id=id) for table, error in KINDS for id, forge in table.items()]


def is_told_nothing_but(error: type[InvalidToken | TokenExpired], answer: Answer) -> None:
    """Check for the constant text of the code, as in RFC 6750, and an unread body."""
    told = {name: answer.body["error"][name] for name in ("code", "message", "retryable")}
    assert told == {"code": error.code, "message": error.__doc__, "retryable": error.retryable}
    assert set(answer.body["error"]) == {*told, "correlationId", "timestamp"}
    assert (answer.status, answer.body_was_read) == (401, False)
    told = f'error="invalid_token", error_description="{error.__doc__}"'
    challenge = f'Bearer realm="atlas", {told}, DPoP algs="ES256"'
    assert answer.headers["www-authenticate"] == challenge


@pytest.mark.filterwarnings("ignore:Key size should be")  # joserfc's warning about the short key
@pytest.mark.parametrize(("forge", "error"), TABLE)
async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(life, forge, error):
    async with a_scene(life) as scene:
        good = scene.tenant.issue_token(TokenRequest(sub=SUB))
        forged = forge(good, scene)
        is_told_nothing_but(error, answer := await scene.flow.post(an_export(), token=forged))
        told = f"{answer}{list(scene.flow.seen)}"
        pieces = [piece for piece in (MARK, *forged.split(".")) if len(piece) > 5]
        assert [piece for piece in pieces if piece in told] == []

        assert (await scene.flow.post(an_export(), token=good)).status == 200
        is_told_nothing_but(error, await scene.flow.post(an_export(), token=forged))
    assert scene.eve.request_counts == {}, "nothing in a header is followed"
    assert len(life.dataset.files()) == 1


async def test_what_a_forger_writes_without_a_flaw_is_good(life):
    """Otherwise a token could be rejected for a reason other than the one in its table."""
    async with a_scene(life) as scene:
        text = payload_of(scene.tenant.issue_token(TokenRequest(sub=SUB)))
        by_the_next = scene.signed(text, NEXT, kid=NEXT.kid)
        for token in (scene.signed(text), scene.issue_raw_claim("more", "1"), by_the_next):
            assert (await scene.flow.post(an_export(), token=token)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("POST", "/export", id="an export"),
        pytest.param("POST", "/ingest", id="an export, as of old"),
        pytest.param("POST", "/export/batch", id="a batch"),
        pytest.param("GET", "/exports", id="receipts"),
        pytest.param("GET", f"/exports/{'0' * 64}", id="a receipt"),
    ],
)
@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
async def test_there_is_no_way_around_the_door(life, method, path, media):
    async with a_scene(life) as scene:
        forged = edited(scene.tenant.issue_token(TokenRequest()), 1, sub=SUB)
        answer = await scene.flow.send(method, API_PREFIX + path, forged, b"{}", content_type=media)

    is_told_nothing_but(InvalidToken, answer)
