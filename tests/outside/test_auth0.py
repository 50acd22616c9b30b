"""Token validation against the Auth0 emulator over real HTTP: claims, forgeries, caching, keys."""

import base64
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import aiohttp
import anyio
import msgspec
import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey, RSAKey

from atlas.core.errors import (
    AtlasError,
    AuthUnavailable,
    InvalidToken,
    MissingIdentity,
    ProofRequired,
    SenderConstrainedToken,
    TokenExpired,
)
from atlas.core.events import KeysChanged, KeysUnavailable
from atlas.core.messages import User
from atlas.local.auth0 import (
    Auth0Emulator,
    KeyRing,
    Outage,
    TokenRequest,
    build_application,
)
from atlas.outside.auth0 import (
    CACHED_TOKENS_MAX,
    Auth0Identities,
    Auth0Inspection,
    JwksCache,
    TokenCache,
    TokenPolicy,
)
from atlas.outside.auth0.keys import JWKS_BYTES_MAX, parse_signing_keys
from atlas.outside.auth0.tokens import AcceptedToken
from tests.conftest import EventRecorder
from tests.support.token_forgery import KEYS, edited

NOW = 1_790_000_000
STRANGER = "stranger"


@dataclass
class TokenClient:
    """Identifies users by token; `elapsed` (monotonic) and `now` (Unix time) are its clocks."""

    tenant: Auth0Emulator
    identities: Auth0Identities
    seen: EventRecorder
    session: aiohttp.ClientSession
    elapsed: float = 0.0
    now: int = NOW

    async def identify(self, **wish) -> User:
        return await self.identities.identify_user(self.tenant.issue_token(TokenRequest(**wish)))

    async def outcome(self, token: str):
        try:
            return await self.identities.identify_user(token)
        except AtlasError as error:
            return type(error)

    async def outcomes(self, tokens: list[str]) -> list[object]:
        """Identify all tokens concurrently and return the outcomes in order."""
        found: dict[int, object] = {}

        async def ask(number: int) -> None:
            found[number] = await self.outcome(tokens[number])

        async with anyio.create_task_group() as senders:
            for number in range(len(tokens)):
                senders.start_soon(ask, number)
        return [found[number] for number in range(len(tokens))]

    async def list_failed_checks(self, token: str) -> list[str]:
        """Return the names of the checks that `atlas diagnose` reports as bad for a token."""
        inspection = Auth0Inspection(self.session, self.policy, self.clock)
        await inspection.fetch_keys(self.tenant.issuer)
        return [each.name for each in inspection.explain(token, "", str) if each.verdict == "bad"]

    def connect(self, **rules) -> None:
        """Start without keys, with the rules of a TokenPolicy."""
        issuers = rules.pop("issuers", (self.tenant.issuer,))
        audiences = rules.pop("audiences", (self.tenant.audience,))
        self.policy = TokenPolicy(issuers, audiences, **rules)
        self.keys = {
            issuer: JwksCache(
                self.session,
                issuer,
                lambda: self.elapsed,
                self.seen.watch,
            )
            for issuer in issuers
        }
        self.identities = Auth0Identities(self.keys, self.policy, self.clock, lambda: self.elapsed)

    def close(self) -> None:
        for keys in self.keys.values():
            keys.close()

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def fetches(self) -> int:
        return self.tenant.request_counts["jwks"]


@pytest.fixture
def tenant():
    return Auth0Emulator("set below", ring=KeyRing(KEYS[0], KEYS[1]), time_source=lambda: NOW)


@asynccontextmanager
async def open_client(tenant, aiohttp_server, **rules):
    server = await aiohttp_server(build_application(tenant))
    tenant.issuer = str(server.make_url("/"))
    async with aiohttp.ClientSession() as session:
        seen = EventRecorder()
        client = TokenClient(tenant, None, seen, session)
        client.connect(**rules)
        yield client


def forge_hs256_token(tenant: Auth0Emulator) -> str:
    """Sign with HS256, using the public key as the secret: the classic algorithm confusion."""
    claims = {"iss": tenant.issuer, "sub": "eve", "aud": tenant.audience, "exp": NOW + 60}
    pem = tenant.ring.current.as_pem(private=False)
    header = {"alg": "HS256", "kid": tenant.ring.current.kid}
    public = OctKey.import_key(base64.b64encode(pem))
    return jwt.encode(header, claims, public, algorithms=["HS256"])


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({}, id="as Auth0 makes them"),
        pytest.param({"claims": {"aud": ["https://x/userinfo", "https://api.atlas.ai"]}}, id="aud"),
        pytest.param({"header": {"typ": "at+jwt"}}, id="RFC 9068"),
        pytest.param({"header": {"typ": "application/at+jwt"}}, id="RFC 9068 in full"),
        pytest.param({"header": {"typ": None}}, id="no typ"),
        pytest.param({"key": "next"}, id="the key that is to come"),
        pytest.param({"expires_in": -20}, id="a clock that is a little late"),
        pytest.param({"claims": {"nbf": NOW + 20, "iat": NOW + 20}}, id="a little early"),
        pytest.param({"claims": {"iat": NOW + 3_600}}, id="an iat ahead of our clock"),
        pytest.param(
            {"claims": {"sub_profile": "user", "client_profile": "ai_agent"}}, id="profiles"
        ),
    ],
)
async def test_a_good_token_names_its_user(tenant, aiohttp_server, wish):
    async with open_client(tenant, aiohttp_server) as client:
        user = await client.identify(sub="auth0|ada", **wish)

    assert user.sub == "auth0|ada"


async def test_a_name_that_nobody_can_write_down_is_refused(tenant, aiohttp_server):
    """JSON can contain a lone surrogate, which cannot be encoded in a path, a hash or a file."""
    key = tenant.ring.current
    async with open_client(tenant, aiohttp_server) as client:
        claims = jwt.decode(tenant.issue_token(TokenRequest(sub="auth0|half")), key).claims
        text = msgspec.json.encode(claims).replace(b"half", b"\\ud800")
        token = jws.serialize_compact({"alg": "RS256", "kid": key.kid}, text, key)

        assert await client.outcome(token) is InvalidToken
        assert await client.list_failed_checks(token)


async def test_scopes_are_those_of_scope_and_permissions(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        user = await client.identify(claims={"scope": "a b", "permissions": ["c", 4]})

    assert user.scopes == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        pytest.param({"expires_in": -31}, TokenExpired, id="expired"),
        pytest.param({"sub": None}, MissingIdentity, id="nobody"),
        pytest.param({"sub": ""}, MissingIdentity, id="an empty name"),
        pytest.param({"claims": {"sub": 7}}, InvalidToken, id="a name that is no text"),
        pytest.param({"claims": {"iss": None}}, InvalidToken, id="no iss"),
        pytest.param({"claims": {"iss": "https://eve.test/"}}, InvalidToken, id="another iss"),
        pytest.param({"claims": {"aud": None}}, InvalidToken, id="no aud"),
        pytest.param({"claims": {"aud": ["https://eve.test"]}}, InvalidToken, id="another aud"),
        pytest.param({"claims": {"exp": None}}, InvalidToken, id="no exp"),
        pytest.param({"claims": {"exp": "tomorrow"}}, InvalidToken, id="exp is no number"),
        pytest.param({"claims": {"nbf": NOW + 31}}, InvalidToken, id="not yet"),
        pytest.param(
            {"claims": {"cnf": {"x5t#S256": "x"}}}, SenderConstrainedToken, id="bound by mTLS"
        ),
        pytest.param(
            {"claims": {"cnf": {"jkt": "x", "x5t#S256": "x"}}},
            SenderConstrainedToken,
            id="bound twice",
        ),
        pytest.param({"claims": {"iat": "now"}}, InvalidToken, id="iat is no number"),
        pytest.param({"claims": {"act": {"sub": "agent"}}}, InvalidToken, id="an agent"),
        pytest.param({"claims": {"act": "agent"}}, InvalidToken, id="an agent in a text"),
        pytest.param({"claims": {"nonce": "x"}}, InvalidToken, id="an ID token"),
        pytest.param({"header": {"typ": "JWE"}}, InvalidToken, id="another typ"),
        pytest.param({"header": {"typ": "dpop+jwt"}}, InvalidToken, id="a DPoP proof"),
        pytest.param({"header": {"kid": None}}, InvalidToken, id="no kid"),
        pytest.param({"header": {"kid": "unknown"}}, InvalidToken, id="unknown kid"),
        pytest.param({"key": "stranger"}, InvalidToken, id="a stranger's key"),
    ],
)
async def test_a_token_that_is_not_good_is_refused(tenant, aiohttp_server, wish, error):
    async with open_client(tenant, aiohttp_server) as client:
        token = tenant.issue_token(TokenRequest(**wish))
        assert await client.outcome(token) is error
        assert await client.list_failed_checks(token)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda good, tenant: edited(good, 1, sub="eve"), id="other claims"),
        pytest.param(lambda good, tenant: edited(good, 0, alg="none"), id="alg none"),
        pytest.param(
            lambda good, tenant: edited(good, 0, alg="none").rpartition(".")[0] + ".",
            id="alg none and no signature",
        ),
        pytest.param(lambda good, tenant: edited(good, 0, alg="PS256"), id="another alg"),
        pytest.param(lambda good, tenant: edited(good, 0, jku="https://eve.test/"), id="jku"),
        pytest.param(lambda good, tenant: edited(good, 0, x5u="https://eve.test/"), id="x5u"),
        pytest.param(lambda good, tenant: edited(good, 0, jwk={"kty": "RSA"}), id="jwk"),
        pytest.param(lambda good, tenant: edited(good, 0, crit=["exp"]), id="crit"),
        pytest.param(lambda good, tenant: good[:-4], id="cut off"),
        pytest.param(lambda good, tenant: good + "." + good, id="five parts"),
        pytest.param(lambda good, tenant: good.rpartition(".")[0], id="two parts"),
        pytest.param(lambda good, tenant: "opaque", id="opaque, as without an audience"),
        pytest.param(lambda good, tenant: "é.ü.ß", id="no base64"),
        pytest.param(lambda good, tenant: "e30.e30.e30", id="empty objects"),
        pytest.param(lambda good, tenant: "W10." + good.partition(".")[2], id="header no object"),
        pytest.param(lambda good, tenant: good + "A" * 20_000, id="endless"),
        pytest.param(lambda good, tenant: forge_hs256_token(tenant), id="HS256 by the public key"),
        pytest.param(
            lambda good, tenant: tenant.issue_token(
                TokenRequest(key="stranger", header={"kid": tenant.ring.current.kid})
            ),
            id="a stranger's key under our name",
        ),
    ],
)
async def test_a_forgery_is_an_invalid_token_and_nothing_else(tenant, aiohttp_server, forge):
    async with open_client(tenant, aiohttp_server) as client:
        good = tenant.issue_token(TokenRequest())
        assert await client.outcome(forge(good, tenant)) is InvalidToken
        assert await client.list_failed_checks(forge(good, tenant))
        assert await client.list_failed_checks(good) == []
        assert await client.outcome(good) == User("auth0|local", frozenset({"openid", "profile"}))


async def test_a_token_that_was_good_is_not_checked_again_for_five_minutes(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        await client.identify(sub="bob")  # fetches the keys
        client.elapsed, token = 3_500.0, tenant.issue_token(TokenRequest())
        await client.outcome(token)
        tenant.ring, client.elapsed = KeyRing(KEYS[2], KEYS[3]), 3_799.0
        await client.identify(sub="bob")  # fetches them again, now without the key of the token
        assert (await client.outcome(token)).sub == "auth0|local"
        client.elapsed = 3_801.0
        assert await client.outcome(token) is InvalidToken


async def test_a_token_that_is_remembered_expires_like_any_other(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        token = tenant.issue_token(TokenRequest(expires_in=60))
        assert (await client.outcome(token)).sub == "auth0|local"
        client.now += 89
        assert (await client.outcome(token)).sub == "auth0|local"
        client.now += 1
        assert await client.outcome(token) is TokenExpired


def test_no_more_than_so_many_tokens_are_remembered():
    good = TokenCache(lambda: 0.0, lambda: 0.0)
    for number in range(CACHED_TOKENS_MAX + 1):
        good.add(b"%d" % number, AcceptedToken(User(str(number)), 60.0))

    assert good.find(b"0") is None
    assert good.find(b"1").user == User("1")


async def test_what_is_remembered_is_a_digest_and_a_name_and_no_token(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        token = tenant.issue_token(TokenRequest(sub="auth0|ada"))
        await client.outcome(token)

        ((digest, (_, (user, _, _))),) = client.identities._cache._tokens.items()
        assert digest == hashlib.sha256(token.encode()).digest()
        assert user == User("auth0|ada", frozenset({"openid", "profile"}))


async def test_a_bound_token_that_another_has_signed_is_only_an_invalid_one(tenant, aiohttp_server):
    """Only the holder of a genuine token learns more about it than "invalid"."""
    async with open_client(tenant, aiohttp_server) as client:
        bound = TokenRequest(claims={"cnf": {"jkt": "x"}})
        good, by_stranger = (
            tenant.issue_token(bound),
            tenant.issue_token(msgspec.structs.replace(bound, key=STRANGER)),
        )

        assert await client.outcome(good) is ProofRequired
        assert await client.outcome(by_stranger) is InvalidToken
        assert await client.outcome(edited(good, 1, sub="eve")) is InvalidToken


async def test_keys_are_fetched_once_for_all_who_ask_at_once(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        async with anyio.create_task_group() as many:
            for _ in range(50):
                many.start_soon(client.outcome, tenant.issue_token(TokenRequest()))

        assert client.fetches == 1


async def test_a_key_that_comes_into_use_is_known_already(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        await client.identify()
        tenant.ring = KeyRing(KEYS[1], KEYS[2], previous=KEYS[0])

        await client.identify()
        await client.identify(key="previous")

        assert client.fetches == 1


@pytest.mark.parametrize("rotated_at", range(100, 108))
async def test_under_a_flood_of_unknown_kids_a_new_key_is_good_within_ten_seconds(
    tenant, aiohttp_server, rotated_at
):
    """And no minute has more than ten fetches."""
    async with open_client(tenant, aiohttp_server) as client:
        await client.identify()
        fetched_at = [0.0]
        forged = edited(tenant.issue_token(TokenRequest()), 0, kid="random")
        for second in range(rotated_at):
            client.elapsed = float(second)
            assert await client.outcome(forged) is InvalidToken
            fetched_at += [client.elapsed] * (client.fetches - len(fetched_at))
        tenant.ring = KeyRing(KEYS[2], KEYS[3])
        new, refused_for = tenant.issue_token(TokenRequest()), 0
        while await client.outcome(new) is InvalidToken:
            refused_for, client.elapsed = refused_for + 1, client.elapsed + 1.0

        assert refused_for <= 8
        assert all(later - first > 60.0 for first, later in pairwise(fetched_at[::9]))
        assert len(client.seen.of(KeysChanged)) == 1


async def test_a_known_key_waits_for_nobody_while_auth0_is_silent_or_down(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        await client.identify()
        tenant.outage = Outage(status=503, seconds=30.0)
        client.elapsed = 4_000.0
        with anyio.fail_after(3):  # less than the answer takes
            for number in range(20):
                await client.identify(sub=f"auth0|{number}")
                await anyio.sleep(0.01)

        assert client.fetches == 2
        client.close()


async def test_keys_are_fetched_again_also_when_nobody_asks(tenant, aiohttp_server, monkeypatch):
    monkeypatch.setattr("atlas.outside.auth0.keys.REFRESH_SECONDS", 0.02)
    async with open_client(tenant, aiohttp_server) as client:
        (keys,) = client.keys.values()
        keys.start()
        with anyio.fail_after(5):
            while not keys.has_keys:
                await anyio.sleep(0.01)
        client.close()

    assert client.fetches == 1


@pytest.mark.slow
async def test_ten_thousand_made_up_kids_cost_one_fetch_and_nobody_else_an_answer(
    tenant, aiohttp_server
):
    async with open_client(tenant, aiohttp_server) as client:
        good = [tenant.issue_token(TokenRequest(sub=f"auth0|{number}")) for number in range(100)]
        forged = [edited(good[0], 0, kid=f"random-{number}") for number in range(10_000)]
        await client.identify()
        client.elapsed = 301.0  # an unknown kid may trigger a fetch again
        found = await client.outcomes([*forged[:5_000], *good, *forged[5_000:]])

        assert found[:5_000] == found[5_100:] == [InvalidToken] * 5_000
        assert [user.sub for user in found[5_000:5_100]] == [f"auth0|{n}" for n in range(100)]
        assert client.fetches == 2


@pytest.mark.parametrize("kept", [True, False], ids=["keys are kept", "there are none"])
async def test_an_endpoint_that_is_down_for_an_hour_is_asked_ten_times_a_minute_at_most(
    tenant, aiohttp_server, kept
):
    async with open_client(tenant, aiohttp_server) as client:
        good = tenant.issue_token(TokenRequest())
        forged = edited(good, 0, kid="random")
        if kept:
            await client.identify(sub="bob")
        tenant.outage, client.elapsed, before = Outage(), 4_000.0, client.fetches
        each_minute = []
        for minute in range(60):
            for second in range(60):
                client.elapsed = 4_000.0 + 60 * minute + second
                assert await client.outcome(forged) is AuthUnavailable
                fresh = await client.outcome(good)
                assert (fresh is AuthUnavailable) != kept
            each_minute.append(client.fetches - before - sum(each_minute))

        assert max(each_minute) <= 10
        assert min(each_minute) >= 6  # with a pause of ten seconds at most


async def test_keys_that_are_away_at_the_start_are_had_soon_after_they_are_there(
    tenant, aiohttp_server
):
    async with open_client(tenant, aiohttp_server) as client:
        good, tenant.outage = tenant.issue_token(TokenRequest()), Outage()
        for second in range(3_600):
            client.elapsed = float(second)
            await client.outcome(edited(good, 0, kid="random"))
        tenant.outage, client.elapsed = Outage(on=False), client.elapsed + 15.0

        assert (await client.outcome(good)).sub == "auth0|local"


async def test_while_keys_rotate_under_two_hundred_requests_no_good_token_is_refused(
    tenant, aiohttp_server
):
    async with open_client(tenant, aiohttp_server) as client:
        before = [tenant.issue_token(TokenRequest(sub=f"auth0|{number}")) for number in range(100)]
        await client.outcomes(before[:50])
        tenant.ring, client.elapsed = KeyRing(KEYS[2], KEYS[3], previous=KEYS[0]), 301.0
        after = [
            tenant.issue_token(TokenRequest(sub=f"auth0|{number}")) for number in range(100, 200)
        ]
        found = await client.outcomes(
            [token for pair in zip(before, after, strict=True) for token in pair]
        )

        assert {user.sub for user in found} == {f"auth0|{number}" for number in range(200)}
        assert client.fetches == 2


@pytest.mark.slow
async def test_an_endpoint_that_says_nothing_keeps_nobody_out(aiohttp_server):
    """Requests with an unknown key share one wait; those with a known key do not wait at all."""
    silent = anyio.Event()

    async def answer(_request):
        if requests:
            await silent.wait()
        requests.append(1)
        return aiohttp.web.json_response({"keys": [KEYS[0].as_dict(private=False)]})

    requests, app = [], aiohttp.web.Application()
    app.router.add_get("/.well-known/jwks.json", answer)
    tenant = Auth0Emulator(
        str((await aiohttp_server(app)).make_url("/")), ring=KeyRing(KEYS[0], KEYS[1])
    )
    async with aiohttp.ClientSession() as session:
        client = TokenClient(tenant, None, EventRecorder(), session)
        client.connect()
        client.now = int(tenant.time_source())
        await client.identify()
        client.elapsed = 3_601.0
        good = [tenant.issue_token(TokenRequest(sub=f"auth0|{number}")) for number in range(50)]
        forged = [edited(good[0], 0, kid=f"random-{number}") for number in range(50)]
        found = await client.outcomes([*forged, *good])
        silent.set()

    assert found[:50] == [AuthUnavailable] * 50
    assert [user.sub for user in found[50:]] == [f"auth0|{number}" for number in range(50)]
    assert client.seen.of(KeysUnavailable) == [
        KeysUnavailable("TimeoutError", 1, tenant.issuer.split("/")[2])
    ]


async def test_an_hour_later_keys_are_looked_at_again_and_a_revoked_one_is_gone(
    tenant, aiohttp_server
):
    async with open_client(tenant, aiohttp_server) as client:
        old = tenant.issue_token(TokenRequest())
        await client.outcome(old)
        tenant.ring = KeyRing(KEYS[1], KEYS[2])

        assert await client.outcome(old) == User("auth0|local", frozenset({"openid", "profile"}))
        client.elapsed = 3_001.0
        await client.outcome(old)  # fetches the keys in the background
        with anyio.fail_after(5):
            while client.fetches < 2:
                await anyio.sleep(0.01)
        client.elapsed = 3_601.0
        await client.identify()
        assert await client.outcome(old) is InvalidToken


@pytest.mark.parametrize("outage", [Outage(status=503), Outage(status="cut"), Outage(status=302)])
async def test_while_the_endpoint_is_down_the_keys_we_have_go_on_being_used(
    tenant, aiohttp_server, outage
):
    async with open_client(tenant, aiohttp_server) as client:
        await client.identify()
        tenant.outage = outage

        for hour in range(1, 10):
            client.elapsed = hour * 3_601.0
            await client.identify()
            with anyio.fail_after(5):  # the keys are fetched in the background
                while len(client.seen.of(KeysUnavailable)) < hour:
                    await anyio.sleep(0.001)

        assert client.seen.of(KeysUnavailable)[-1].keys == 2
        unknown = tenant.issue_token(TokenRequest(header={"kid": "new"}))
        assert await client.outcome(unknown) is AuthUnavailable  # it may be valid


async def test_without_any_key_nobody_is_called_a_liar(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server) as client:
        tenant.outage = Outage()
        assert await client.outcome(tenant.issue_token(TokenRequest())) is AuthUnavailable
        with pytest.raises(AuthUnavailable):
            await client.identities.check_ready()
        assert client.fetches == 1  # no second fetch within a second

        tenant.outage = Outage(on=False)
        client.elapsed = 1.1
        await client.identify()
        await client.identities.check_ready()


def encode_jwks(key: RSAKey, **more: object) -> bytes:
    return msgspec.json.encode({"keys": [key.as_dict(private=False) | {"kid": "a"} | more]})


@pytest.mark.filterwarnings("ignore:Key size should be")  # joserfc warns about the short key
@pytest.mark.parametrize(
    "jwks",
    [
        pytest.param(encode_jwks(KEYS[0], use="enc"), id="for encryption"),
        pytest.param(encode_jwks(KEYS[0], alg="RS512"), id="another alg"),
        pytest.param(None, id="short"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b"{}", id="no keys"),
        pytest.param(b'{"keys": []}', id="none"),
        pytest.param(b'{"keys": [{"kty": "RSA", "kid": "a", "n": "!", "e": "AQAB"}]}', id="bad"),
        pytest.param(b'{"keys": [{"kty": "oct", "kid": "a", "k": "AAAA"}]}', id="symmetric"),
        pytest.param(b'{"keys": [{"kty": "RSA", "kid": "a", "e": "AQAB"}]}', id="half"),
        pytest.param(b'{"keys": [{"kty": "RSA", "kid": "a", "n": 7, "e": 3}]}', id="no text"),
        pytest.param(b'{"keys": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", id="deep"),
        pytest.param(b'{"keys": [' + b" " * 300_000 + b"]}", id="endless"),
        pytest.param(encode_jwks(KEYS[0]).ljust(JWKS_BYTES_MAX + 1), id="a byte too long"),
        pytest.param(b'{"keys": [%b{}]}' % (b"{}," * 10_000), id="ten thousand that are none"),
    ],
)
async def test_what_holds_no_key_that_can_sign_is_an_outage(aiohttp_server, jwks):
    body = encode_jwks(RSAKey.generate_key(1024)) if jwks is None else jwks

    async def answer(_request):
        return aiohttp.web.Response(body=body)

    app = aiohttp.web.Application()
    app.router.add_get("/.well-known/jwks.json", answer)
    server = await aiohttp_server(app)
    async with aiohttp.ClientSession() as session:
        keys = JwksCache(session, str(server.make_url("/")), lambda: 0.0, EventRecorder().watch)
        with pytest.raises(AuthUnavailable):
            await keys.get("a")


def test_among_ten_thousand_that_are_none_a_good_one_is_found():
    jwks = encode_jwks(KEYS[0]).replace(b'{"keys":[', b'{"keys":[' + b'{"kid":"a"},' * 10_000)

    assert len(jwks) < JWKS_BYTES_MAX
    assert set(parse_signing_keys(jwks)) == {"a"}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"n": "!"}, id="no base64"),
        pytest.param({"n": "AQAB"}, id="tiny"),
        pytest.param({"n": 7}, id="no text"),
        pytest.param({"e": "AA"}, id="no exponent"),
        pytest.param({"kid": 7}, id="no name"),
    ],
)
def test_a_key_that_cannot_be_read_takes_no_other_with_it(more):
    good = KEYS[0].as_dict(private=False) | {"kid": "good"}
    jwks = msgspec.json.encode({"keys": [good | {"kid": "bad"} | more, good]})

    assert set(parse_signing_keys(jwks)) == {"good"}


@pytest.mark.parametrize("stranger", [None, 7, "canary", [], {}, {"kty": ["RSA"], "kid": "bad"}])
def test_what_is_no_key_at_all_takes_no_other_with_it(stranger):
    good = KEYS[0].as_dict(private=False) | {"kid": "good"}

    assert set(parse_signing_keys(msgspec.json.encode({"keys": [stranger, good]}))) == {"good"}


def test_null_is_absent_as_some_issuers_write_it():
    good = KEYS[0].as_dict(private=False) | {"kid": "good", "use": None, "alg": None, "x5c": None}

    assert set(parse_signing_keys(msgspec.json.encode({"keys": [good]}))) == {"good"}


@asynccontextmanager
async def open_two_issuers(tenant, aiohttp_server):
    """A tenant under its own domain, and another issuer with keys of its own."""
    other = Auth0Emulator("", ring=KeyRing(KEYS[2], KEYS[3]), time_source=lambda: NOW)
    other.issuer = str((await aiohttp_server(build_application(other))).make_url("/"))
    async with open_client(tenant, aiohttp_server) as client:
        client.connect(issuers=(tenant.issuer, other.issuer))
        yield client, other


async def test_tokens_of_several_issuers_are_good_each_with_its_own_keys(tenant, aiohttp_server):
    async with open_two_issuers(tenant, aiohttp_server) as (client, other):
        for issuer in (tenant, other):
            user = await client.outcome(issuer.issue_token(TokenRequest(sub=f"at {issuer.issuer}")))
            assert user.sub == f"at {issuer.issuer}"
        crossed = other.issue_token(TokenRequest(claims={"iss": tenant.issuer}))
        assert await client.outcome(crossed) is InvalidToken
        assert (client.fetches, other.request_counts["jwks"]) == (1, 1)


async def test_an_issuer_that_is_not_ours_costs_no_fetch(tenant, aiohttp_server):
    async with open_two_issuers(tenant, aiohttp_server) as (client, other):
        for issuer in ("https://eve.test/", other.issuer.rstrip("/"), other.issuer.upper()):
            stranger = other.issue_token(TokenRequest(claims={"iss": issuer}))
            assert await client.outcome(stranger) is InvalidToken
        assert client.fetches == other.request_counts["jwks"] == 0


async def test_an_issuer_that_is_down_keeps_only_its_own_tokens_waiting(tenant, aiohttp_server):
    async with open_two_issuers(tenant, aiohttp_server) as (client, other):
        other.outage = Outage()
        await client.identities.check_ready()
        assert await client.outcome(other.issue_token(TokenRequest())) is AuthUnavailable
        await client.identify()
        (failed,) = {each.issuer for each in client.seen.of(KeysUnavailable)}
        assert failed in other.issuer
        tenant.outage = Outage()
        client.connect(issuers=(tenant.issuer, other.issuer))
        with pytest.raises(AuthUnavailable):
            await client.identities.check_ready()


async def test_a_token_for_one_of_several_audiences_is_good(tenant, aiohttp_server):
    ours = ("https://api.atlas.ai", "https://old.atlas.ai")
    async with open_client(tenant, aiohttp_server, audiences=ours) as client:
        for audience in (*ours, ["https://x/userinfo", ours[1]]):
            assert (await client.identify(claims={"aud": audience})).sub == "auth0|local"
        for audience in ("https://x/userinfo", ", ".join(ours), [], "", [ours[1], 7]):
            token = tenant.issue_token(TokenRequest(claims={"aud": audience}))
            assert await client.outcome(token) is InvalidToken, audience
            assert await client.list_failed_checks(token)


@pytest.mark.parametrize("audiences", [(), ("",), ("https://api.atlas.ai", "")])
def test_there_is_no_policy_without_an_audience(audiences):
    with pytest.raises(ValueError, match="no audience"):
        TokenPolicy(("https://a.test/",), audiences)


def issue_ps256(tenant: Auth0Emulator, key: RSAKey) -> str:
    free = RSAKey.import_key(key.as_dict(private=True, alg="PS256"))
    token = tenant.issue_token(TokenRequest())
    claims = jwt.decode(token, key).claims
    header = {"alg": "PS256", "kid": key.kid}
    return jwt.encode(header, claims, free, algorithms=["PS256"])


@pytest.mark.parametrize(
    ("algorithms", "alg_of_key", "accepted"),
    [
        pytest.param(("RS256",), "RS256", "RS256", id="by default"),
        pytest.param(("RS256",), None, "RS256", id="by default, a key without alg"),
        pytest.param(("PS256",), "PS256", "PS256", id="PS256"),
        pytest.param(("PS256",), None, "PS256", id="PS256, a key without alg"),
        pytest.param(("PS256",), "RS256", "PS256", id="PS256, a key with the label of the tenant"),
        pytest.param(("RS256", "PS256"), None, "RS256 PS256", id="both"),
        pytest.param(("RS256", "PS256"), "PS256", "RS256 PS256", id="both, a key for one"),
        pytest.param(("RS256", "PS256"), "RS256", "RS256 PS256", id="both, a key for the other"),
    ],
)
async def test_only_the_algorithms_of_the_settings_verify(
    tenant, aiohttp_server, algorithms, alg_of_key, accepted
):
    key = tenant.ring.current
    public = key.as_dict(private=False) | {"alg": alg_of_key}
    listed = {name: value for name, value in public.items() if value is not None}

    async def answer(_request):
        return aiohttp.web.json_response({"keys": [listed]})

    app = aiohttp.web.Application()
    app.router.add_get("/.well-known/jwks.json", answer)
    server = await aiohttp_server(app)
    async with open_client(tenant, aiohttp_server) as client:
        tenant.issuer = str(server.make_url("/"))
        client.connect(algorithms=algorithms)
        tokens = {"RS256": tenant.issue_token(TokenRequest()), "PS256": issue_ps256(tenant, key)}
        for algorithm, token in tokens.items():
            outcome = await client.outcome(token)
            assert (outcome is not InvalidToken) == (algorithm in accepted.split()), algorithm
            assert bool(await client.list_failed_checks(token)) == (outcome is InvalidToken)


async def test_an_agent_is_accepted_by_setting(tenant, aiohttp_server):
    async with open_client(tenant, aiohttp_server, accepts_agents=True) as client:
        user = await client.identify(sub="auth0|ada", claims={"act": {"sub": "agent@clients"}})

    assert user.sub == "auth0|ada"
