"""Bound tokens (DPoP): a proof serves one request; every forged one is refused, with one text."""

import time
from datetime import timedelta
from urllib.parse import quote

import anyio
import msgspec
import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from atlas.core.errors import InvalidProof, InvalidToken, ProofNonceRequired, ProofRequired
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import User
from atlas.edge.context import RequestContext
from atlas.edge.used_proofs import UsedProofs
from atlas.local.auth0 import TokenRequest
from atlas.outside.auth0.proofs import NonceIssuer
from atlas.service.dependencies import build_nonce_keys
from atlas.settings import JournalSettings, Settings
from tests.conftest import NOON, Answer, ServiceHarness, an_export
from tests.support.dpop import (
    ABSENT,
    BIG_KEY,
    EVES_KEY,
    PUBLIC,
    TARGET,
    Phone,
    seal,
    with_claims,
    with_header,
    with_jwk,
    with_payload,
    with_text,
)
from tests.support.token_forgery import OURS, SUB, Scene, a_scene, text64

EXPORT = f"{API_PREFIX}/export"
BODY = msgspec.json.encode(an_export())


@pytest.fixture
def life(tmp_path):
    return ServiceHarness(None)


async def send(scene: Scene, headers: dict[str, str], body=BODY, method="POST", path=EXPORT):
    return await scene.flow.send(method, path, None, body, **headers)


def public(key: ECKey) -> dict[str, object]:
    return key.as_dict(private=False)


def flip(text: str) -> str:
    """Change one bit in the middle of the signature."""
    head, _, signature = text.rpartition(".")
    return f"{head}.{signature[:40]}{'A' if signature[40] != 'A' else 'B'}{signature[41:]}"


def by_eve(phone: Phone, _scene: Scene) -> dict[str, str]:
    """A stolen token with a proof by the thief's key."""
    payload = msgspec.json.encode(phone.claims())
    return phone.headers(seal(phone.header(jwk=public(EVES_KEY)), payload, EVES_KEY))


def of_another_phone(phone: Phone, scene: Scene) -> dict[str, str]:
    """Another user's valid proof of a token of her own."""
    return phone.headers(Phone(scene.tenant, EVES_KEY, "auth0|canary-eve").prove())


def by_hmac(phone: Phone, _scene: Scene) -> dict[str, str]:
    key = OctKey.import_key(msgspec.json.encode(public(phone.key)))
    payload = msgspec.json.encode(phone.claims())
    return phone.headers(seal(phone.header(alg="HS256"), payload, key, "HS256"))


def twice(phone: Phone, _scene: Scene) -> dict[str, str]:
    return phone.headers(phone.prove()) | {"DPoP": phone.prove()}


def for_another_token(phone: Phone, scene: Scene) -> dict[str, str]:
    """A proof by the right key for the token before."""
    proof = phone.prove()
    phone.token = scene.tenant.issue_token(TokenRequest(sub=SUB, jkt=phone.jkt, expires_in=60))
    return phone.headers(proof)


def half_bound(phone: Phone, scene: Scene) -> dict[str, str]:
    phone.token = scene.tenant.issue_token(TokenRequest(sub=SUB, jkt=phone.jkt[:-1]))
    return phone.headers(phone.prove())


NOW = int(time.time())
FORGERIES = {
    # the key
    "the thief's key": by_eve,
    "the thief's signature under our key": with_header(EVES_KEY),
    "another phone's proof": of_another_phone,
    "a thumbprint that is cut": half_bound,
    "a private key": with_jwk(d=text64(bytes(32))),
    "an empty private key": with_jwk(d=""),
    "a symmetric part": with_jwk(k="AAAA"),
    "no jwk": with_header(jwk=ABSENT),
    "jwk null": with_header(jwk=None),
    "jwk a list": with_header(jwk=[]),
    "jwk a text": with_header(jwk="canary"),
    "jwk empty": with_header(jwk={}),
    "jwk without y": with_jwk(y=ABSENT),
    "jwk with a number": with_jwk(x=7),
    "jwk of no base64": with_jwk(x="!canary!"),
    "jwk of a point that is not on the curve": with_jwk(x=text64(bytes(31) + b"\7")),
    "jwk of another curve": with_jwk(crv="secp256k1"),
    "jwk of no curve": with_jwk(crv="canary"),
    "jwk of a curve in a list": with_jwk(crv=["P-256"]),
    "jwk of another type": with_jwk(kty="oct"),
    "an RSA key": with_header(OURS, "RS256", alg="RS256", jwk=OURS.as_dict(private=False)),
    "an RSA key as ES256": with_header(OURS, "RS256", jwk=OURS.as_dict(private=False)),
    "a P-384 key": with_header(BIG_KEY, "ES384", alg="ES384", jwk=public(BIG_KEY)),
    "a P-384 key as ES256": with_header(BIG_KEY, "ES384", jwk=public(BIG_KEY)),
    "kid instead of jwk": with_header(EVES_KEY, jwk=ABSENT, kid="canary"),
    # the algorithm
    "alg none": lambda phone, _: phone.headers(
        seal(phone.header(alg="none"), msgspec.json.encode(phone.claims()), phone.key)
    ),
    "alg none and no signature": lambda phone, _: phone.headers(
        seal(phone.header(alg="none"), b"{}", phone.key).rpartition(".")[0] + "."
    ),
    "alg absent": with_header(alg=ABSENT),
    "alg in a list": with_header(alg=["ES256"]),
    "alg in lower case": with_header(alg="es256"),
    "HS256 by the public key": by_hmac,
    # the header
    "typ JWT": with_header(typ="JWT"),
    "typ of a token": with_header(typ="at+jwt"),
    "typ absent": with_header(typ=ABSENT),
    "typ in a list": with_header(typ=["dpop+jwt"]),
    "jku": with_header(jku="https://canary.test/"),
    "x5u": with_header(x5u="https://canary.test/"),
    "x5c": with_header(x5c=["canary"]),
    "crit": with_header(crit=["exp"]),
    "b64": with_header(b64=False, crit=["b64"]),
    # the request
    "another method": with_claims(htm="GET"),
    "the method in lower case": with_claims(htm="post"),
    "no method": with_claims(htm=ABSENT),
    "methods in a list": with_claims(htm=["POST"]),
    "another host": with_claims(htu=f"https://canary.test{EXPORT}"),
    "a longer host": with_claims(htu=f"https://api.test.canary.test{EXPORT}"),
    "another port": with_claims(htu=f"https://api.test:8443{EXPORT}"),
    "another path": with_claims(htu=f"{TARGET}/batch"),
    "a shorter path": with_claims(htu=PUBLIC),
    "a slash more": with_claims(htu=f"{TARGET}/"),
    "an escaped slash": with_claims(htu=f"{PUBLIC}/{quote(EXPORT[1:], safe='')}"),
    "another case of the path": with_claims(htu=TARGET.upper()),
    "another scheme": with_claims(htu=TARGET.replace("https", "ftp")),
    "no scheme": with_claims(htu=TARGET.removeprefix("https:")),
    "a path only": with_claims(htu=EXPORT),
    "a login in the URL": with_claims(htu=TARGET.replace("//", "//canary@")),
    "a tab in the URL": with_claims(htu=TARGET.replace("api", "a\tpi")),
    "a port that is no number": with_claims(htu=TARGET.replace(".test", ".test:x")),
    "a bracket in the URL": with_claims(htu="https://[canary/"),
    "no URL": with_claims(htu=ABSENT),
    "URLs in a list": with_claims(htu=[TARGET]),
    # the token
    "no ath": with_claims(ath=ABSENT),
    "ath null": with_claims(ath=None),
    "ath of another token": for_another_token,
    "ath in hex": with_claims(ath="0" * 64),
    # the time and the name
    "an hour ago": with_claims(iat=NOW - 3_600),
    "an hour ahead": with_claims(iat=NOW + 3_600),
    "no iat": with_claims(iat=ABSENT),
    "iat as text": with_claims(iat=str(NOW)),
    "iat true": with_claims(iat=True),
    "iat without end": with_payload(lambda said: said.replace(b'"iat":', b'"iat":1e400,"a":')),
    "iat of 400 digits": with_payload(
        lambda said: said.replace(b'"iat":', b'"iat":%b,"a":' % (b"9" * 400))
    ),
    "iat no number": with_payload(lambda said: said.replace(b'"iat":', b'"iat":NaN,"a":')),
    "no jti": with_claims(jti=ABSENT),
    "an empty jti": with_claims(jti=""),
    "jti a number": with_claims(jti=7),
    "jti of 2 KB": with_claims(jti="canary" * 350),
    "a nonce in a list": with_claims(nonce=["canary"]),
    # the form
    "claims in a list": with_payload(lambda said: b"[%s]" % said),
    "claims that are no JSON": with_payload(lambda said: said[:-1]),
    "claims 5,000 deep": with_payload(lambda _: b'{"a":' * 1_000 + b"1" + b"}" * 1_000),
    "no claims": with_payload(lambda _: b""),
    "another payload": with_text(lambda text: text.replace(".", ".A", 1)),
    "a flipped bit": with_text(flip),
    "a signature that is cut": with_text(lambda text: text[:-4]),
    "no signature": with_text(lambda text: text.rpartition(".")[0] + "."),
    "a signature of zeros": with_text(lambda text: f"{text.rpartition('.')[0]}.{'A' * 86}"),
    "two parts": with_text(lambda text: text.rpartition(".")[0]),
    "five parts": with_text(lambda text: f"{text}.canary.canary"),
    "two in one header": with_text(lambda text: f"{text}, {text}"),
    "two headers": twice,
    "100 KB": with_text(lambda text: text + "A" * 100_000),
    "not ASCII": with_text(lambda text: f"{text[:-9]}é{text[-9:]}"),
    "no proof": lambda phone, _: phone.headers(None),
    "an empty proof": lambda phone, _: phone.headers(""),
    "rubbish": lambda phone, _: phone.headers("canary"),
    "the token as its proof": lambda phone, _: phone.headers(phone.token),
}
STRIPPED = {
    "as Bearer": lambda phone, _: phone.headers(None, "Bearer"),
    "as Bearer, with its proof": lambda phone, _: phone.headers(phone.prove(), "Bearer"),
}


def unbound(phone: Phone, scene: Scene) -> dict[str, str]:
    phone.token = scene.tenant.issue_token(TokenRequest(sub=SUB))
    return phone.headers(phone.prove())


def by_a_stranger(phone: Phone, scene: Scene) -> dict[str, str]:
    phone.token = scene.eve.issue_token(TokenRequest(sub=SUB, jkt=phone.jkt))
    return phone.headers(phone.prove())


INVALID = {"an unbound token": unbound, "a stranger's bound token": by_a_stranger}
KINDS = (FORGERIES, InvalidProof), (STRIPPED, ProofRequired), (INVALID, InvalidToken)
TABLE = [pytest.param(forge, error, id=id) for table, error in KINDS for id, forge in table.items()]


def is_told_nothing_but(error: type[InvalidToken], answer: Answer, scheme: str = "DPoP") -> None:
    """Check for the constant text of the code, as in RFC 9449, and an unread body."""
    name = "invalid_dpop_proof" if error is InvalidProof else "invalid_token"
    told = f'error="{name}", error_description="{error.__doc__}"'
    bearer, dpop = 'Bearer realm="atlas"', 'DPoP algs="ES256"'
    expected = f"{bearer}, {dpop}, {told}" if scheme == "DPoP" else f"{bearer}, {told}, {dpop}"
    assert answer.headers["www-authenticate"] == expected
    assert (answer.status, answer.body["error"]["code"]) == (401, "INVALID_TOKEN")
    assert answer.body["error"]["message"] == error.__doc__
    assert not answer.body_was_read


def test_there_are_sixty_forgeries():
    assert len(TABLE) >= 60


@pytest.mark.parametrize(("forge", "error"), TABLE)
async def test_whatever_is_wrong_with_a_proof_the_answer_is_the_same(life, forge, error):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        headers = forge(phone, scene)
        answer = await send(scene, headers)
        is_told_nothing_but(error, answer, headers["authorization"].partition(" ")[0])
        told = f"{answer}{list(scene.flow.seen)}"
        pieces = [
            *headers.get("dpop", "").split("."),
            *headers["authorization"].split("."),
            "canary",
        ]
        assert [piece for piece in pieces if len(piece) > 5 and piece in told] == []

        good = Phone(scene.tenant)
        assert (await send(scene, good.headers(good.prove()))).status == 200


GOOD = {
    "as an app makes it": {},
    "http": {"htu": TARGET.replace("https", "http")},
    "a query and a fragment": {"htu": f"{TARGET}?a=b#c"},
    "the default port": {"htu": TARGET.replace(".test", ".test:443")},
    "upper case": {"htu": TARGET.replace("https://api", "HTTPS://API")},
    "escaped letters": {"htu": TARGET.replace("export", "%65xport")},
    "dots": {"htu": TARGET.replace("/export", "/x/.././export")},
    "a clock a little ahead": {"age": -20},
    "four minutes old": {"age": 240},
    "more claims": {"exp": 1, "nonce": "of another", "sub": "canary"},
    "a nonce of null": {"nonce": None},
}


@pytest.mark.parametrize("claims", GOOD.values(), ids=GOOD)
async def test_a_good_proof_is_accepted(life, claims):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        wish = {name: value for name, value in claims.items() if name != "age"}
        issued = int(time.time()) - claims.get("age", 0)
        proof = phone.prove(**{"iat": issued} | wish)
        assert (await send(scene, phone.headers(proof))).status == 200


async def test_a_header_may_say_more_about_a_proof(life):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        header = phone.header(kid="1") | {"jwk": public(phone.key) | {"use": "sig", "kid": "1"}}
        proof = seal(header, msgspec.json.encode(phone.claims()), phone.key)
        assert (await send(scene, phone.headers(proof, "dpop"))).status == 200


async def test_behind_a_proxy_a_proof_must_name_the_public_url(life):
    life.edge = {"public_url": "https://phones.test/atlas"}
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        named = phone.headers(phone.prove(htu=f"https://phones.test/atlas{EXPORT}"))
        assert (await send(scene, named)).status == 200
        is_told_nothing_but(InvalidProof, await send(scene, phone.headers(phone.prove())))
        plain = phone.prove(htu=f"http://phones.test/atlas{EXPORT}")
        is_told_nothing_but(InvalidProof, await send(scene, phone.headers(plain)))


OTHER_KEYS = {
    "ES384": BIG_KEY,
    "ES512": ECKey.generate_key("P-521"),
    "RS256": RSAKey.generate_key(2048),
    "PS256": RSAKey.generate_key(2048),
    "Ed25519": OKPKey.generate_key("Ed25519"),
}


@pytest.mark.parametrize("algorithm", OTHER_KEYS)
async def test_another_algorithm_by_setting(life, algorithm):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant, OTHER_KEYS[algorithm])
        payload = msgspec.json.encode(phone.claims())
        proof = seal(phone.header(alg=algorithm), payload, phone.key, algorithm)
        is_told_nothing_but(InvalidProof, await send(scene, phone.headers(proof)))
    life.auth0 = {"dpop_algorithms": ("ES256", algorithm)}
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant, OTHER_KEYS[algorithm])
        payload = msgspec.json.encode(phone.claims())
        proof = seal(phone.header(alg=algorithm), payload, phone.key, algorithm)
        assert (await send(scene, phone.headers(proof))).status == 200
        refused = await send(scene, phone.headers(None))
        assert f'DPoP algs="ES256 {algorithm}"' in refused.headers["www-authenticate"]


async def test_with_all_algorithms_a_key_verifies_only_its_own(life):
    life.auth0 = {"dpop_algorithms": ("ES256", *OTHER_KEYS)}
    keys = OTHER_KEYS | {"ES256": EVES_KEY}
    async with a_scene(life) as scene:
        for algorithm, key in keys.items():
            phone = Phone(scene.tenant, key)
            payload = msgspec.json.encode(phone.claims())
            same = {"RS256", "PS256"} if isinstance(key, RSAKey) else {algorithm}
            for other in keys.keys() - same:
                proof = seal(phone.header(alg=other), payload, key, algorithm)
                answer = await send(scene, phone.headers(proof))
                assert answer.body["error"]["message"] == InvalidProof.__doc__, (algorithm, other)


@pytest.mark.filterwarnings("ignore:Key size should be")  # joserfc warns about the short key
async def test_a_key_that_is_short_or_not_for_signatures_is_refused(life):
    short, exchange = RSAKey.generate_key(1024), OKPKey.generate_key("X25519")
    life.auth0 = {"dpop_algorithms": ("RS256", "Ed25519")}
    async with a_scene(life) as scene:
        for key, signer in (short, short), (exchange, OTHER_KEYS["Ed25519"]):
            phone = Phone(scene.tenant, key)
            algorithm = "RS256" if key is short else "Ed25519"
            payload = msgspec.json.encode(phone.claims())
            proof = seal(phone.header(alg=algorithm), payload, signer, algorithm)
            answer = await send(scene, phone.headers(proof))
            assert answer.body["error"]["message"] == InvalidProof.__doc__


async def test_a_phone_that_repeats_its_request_is_no_thief(life):
    """As iOS does after a lost connection: the same headers, the same body."""
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        headers = phone.headers(phone.prove())
        first, again = await send(scene, headers), await send(scene, headers)
        assert (first.status, again.status) == (200, 200)
        assert again.body["replayed"]
        listing = phone.headers(phone.prove(htm="GET", htu=f"{TARGET}s"))
        for _ in range(2):
            assert (await send(scene, listing, b"", "GET", f"{EXPORT}s")).status == 200
    assert len(life.dataset.files()) == 1


OTHERS = {
    "another key": {"Idempotency_Key": "b"},
    "another type": {"Content_Type": "application/x-ndjson"},
    "another device": {"Atlas_Device": "b"},
    "another encoding": {"Content_Encoding": "gzip"},
    "another length": {"Content_Length": "7"},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
async def test_a_used_proof_serves_no_other_request(life, change):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        headers = phone.headers(phone.prove())
        assert (await send(scene, headers)).status == 200
        is_told_nothing_but(InvalidProof, await send(scene, headers | change))


async def test_a_used_proof_serves_no_other_query_and_no_other_token(life):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        headers = phone.headers(phone.prove(htm="GET", htu=f"{TARGET}s", jti="1"))
        assert (await send(scene, headers, b"", "GET", f"{EXPORT}s")).status == 200
        other = await send(scene, headers, b"", "GET", f"{EXPORT}s?limit=1")
        is_told_nothing_but(InvalidProof, other)
        phone.token = scene.tenant.issue_token(TokenRequest(sub=SUB, jkt=phone.jkt, expires_in=60))
        renewed = phone.headers(phone.prove(htm="GET", htu=f"{TARGET}s", jti="1"))
        is_told_nothing_but(InvalidProof, await send(scene, renewed, b"", "GET", f"{EXPORT}s"))


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
async def test_a_used_proof_serves_no_other_body(life, media):
    lines = {"application/json": BODY, "application/x-ndjson": b'{"uuid":"a"}\n'}[media]
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        headers = phone.headers(phone.prove()) | {"content_type": media}
        assert (await send(scene, headers, lines)).status == 200
        forged = await send(scene, headers, lines.replace(b"a", b"b"))
        assert (forged.status, forged.body["error"]["code"]) == (401, "INVALID_TOKEN")
        assert (await send(scene, headers, lines)).status == 200
    assert len(life.dataset.files()) == 1


async def test_two_users_may_choose_the_same_jti(life):
    async with a_scene(life) as scene:
        for phone in (Phone(scene.tenant), Phone(scene.tenant, EVES_KEY, "auth0|eve")):
            assert (await send(scene, phone.headers(phone.prove(jti="1")))).status == 200


async def nothing() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_a_proof_is_remembered_until_it_has_expired_and_the_oldest_make_room():
    proofs = [f".{text64(msgspec.json.encode({'jti': str(number)}))}." for number in range(4)]
    now, user = [0.0], User("auth0|ada")
    used = UsedProofs(300.0, lambda: now[0], limit=3)

    def use(number: int, key: str = "") -> None:
        used.use(user, RequestContext(correlation_id="c", proof=proofs[number], key=key), nothing)

    use(0)
    now[0] = 330.0  # as long as the phone's clock may be ahead
    with pytest.raises(InvalidProof):
        use(0, "another")
    now[0] = 361.0
    for number in range(4):
        use(number, "another")
    use(0)  # forgotten: three are remembered
    with pytest.raises(InvalidProof):
        use(3)


async def test_with_a_nonce_the_clock_of_the_phone_does_not_matter(life):
    life.auth0 = {"dpop_nonce": True}
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        asked = await send(scene, phone.headers(phone.prove()))
        assert (asked.status, asked.body["error"]["message"]) == (401, ProofNonceRequired.__doc__)
        assert 'DPoP algs="ES256", error="use_dpop_nonce"' in asked.headers["www-authenticate"]
        nonce = asked.headers["dpop-nonce"]
        for iat in (1, 9_999_999_999):
            proof = phone.prove(nonce=nonce, iat=iat)
            assert (await send(scene, phone.headers(proof))).status == 200
        for wrong in (None, "", "canary", "é", nonce[:-1], "B" + nonce[1:], nonce + "A", "A" * 32):
            answer = await send(scene, phone.headers(phone.prove(nonce=wrong)))
            assert (answer.status, "dpop-nonce" in answer.headers) == (401, True), wrong
        by_eve = phone.headers(seal(phone.header(), b"{}", EVES_KEY))
        assert "dpop-nonce" not in (await send(scene, by_eve)).headers


def test_replicas_with_one_key_accept_each_others_nonces_and_old_keys_count():
    old, new = (Settings(journal=JournalSettings(keys=keys)) for keys in (("a",), ("b", "a")))
    own = [build_nonce_keys(Settings()) for _ in range(2)]
    now = [NOON]
    first, second, *strangers = (
        NonceIssuer(keys, 300.0, lambda: now[0])
        for keys in (build_nonce_keys(old), build_nonce_keys(new), *own)
    )
    nonce = first.issue()

    assert (second.is_valid(nonce), first.is_valid(second.issue())) == (True, False)
    assert not any(each.is_valid(nonce) for each in strangers)
    assert own[0] != own[1]
    for seconds, is_good in ((300, True), (301, False), (-30, True), (-31, False)):
        now[0] = NOON + timedelta(seconds=seconds)
        assert first.is_valid(nonce) == is_good, seconds


async def test_bound_tokens_can_be_required_or_turned_off(life):
    life.auth0 = {"dpop": "required"}
    async with a_scene(life) as scene:
        phone, plain = Phone(scene.tenant), scene.tenant.issue_token(TokenRequest(sub=SUB))
        assert (await send(scene, phone.headers(phone.prove()))).status == 200
        refused = await scene.flow.post(an_export(), token=plain)
        told = f'error="invalid_token", error_description="{ProofRequired.__doc__}"'
        assert refused.headers["www-authenticate"] == f'DPoP algs="ES256", {told}'
        nobody = await scene.flow.post(an_export(), token=None)
        assert nobody.headers["www-authenticate"] == 'DPoP algs="ES256"'
    life.auth0 = {"dpop": "off"}
    async with a_scene(life) as scene:
        phone, plain = Phone(scene.tenant), scene.tenant.issue_token(TokenRequest(sub=SUB))
        assert (await scene.flow.post(an_export(), token=plain)).status == 200
        for token in (phone.token, plain):
            phone.token = token
            refused = await send(scene, phone.headers(phone.prove()))
            assert refused.status == 401
            assert refused.headers["www-authenticate"].startswith('Bearer realm="atlas", error=')
            assert "DPoP algs" not in refused.headers["www-authenticate"]


async def test_a_lost_connection_leaves_the_proof_to_the_repeated_request(life):
    async with a_scene(life) as scene:
        phone = Phone(scene.tenant)
        headers = phone.headers(phone.prove())
        async with anyio.create_task_group() as both:
            for _ in range(2):
                both.start_soon(send, scene, headers, [BODY[:9], BODY[9:]])
        assert (await send(scene, headers)).body["replayed"]
