"""The Auth0 emulator: key rotation, tokens on request, and an endpoint that can fail."""

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from atlas.local.auth0 import AUDIENCE, Auth0Emulator, KeyRing, build_application, generate_key

NOW = 1_790_000_000
KEYS = [generate_key() for _ in range(2)]  # slower than all tests here
JWKS = "/.well-known/jwks.json"


@dataclass
class Auth0Caller:
    """A client of the emulator."""

    tenant: Auth0Emulator
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, wish: object = None, **more: Any):
        body = {} if wish is None else {"data": msgspec.json.encode(wish)}
        kind = {"Content-Type": "application/json"} if body else {}
        async with self.session.request(method, path, headers=kind, **body, **more) as answer:
            return answer.status, await answer.read()

    async def json(self, method: str, path: str, wish: object = None, **more: Any) -> Any:
        status, body = await self.ask(method, path, wish, **more)
        assert status == 200
        return msgspec.json.decode(body)

    async def kids(self) -> list[str]:
        return [key["kid"] for key in (await self.json("GET", JWKS))["keys"]]

    async def token(self, **wish: object) -> str:
        return (await self.json("POST", "/stand-in/tokens", wish))["access_token"]

    async def read(self, token: str) -> jwt.Token:
        """Decode a token with the published keys. Raises a JoseError if none of them signed it."""
        keys = KeySet.import_key_set(await self.json("GET", JWKS))
        return jwt.decode(token, keys, algorithms=["RS256"])


@asynccontextmanager
async def open_caller(keys_file=None):
    ring = KeyRing(*KEYS) if keys_file is None else KeyRing.load(keys_file)
    tenant = Auth0Emulator("set below", ring=ring, keys_file=keys_file, time_source=lambda: NOW)
    async with TestServer(build_application(tenant)) as server:
        tenant.issuer = str(server.make_url("/"))
        async with aiohttp.ClientSession(tenant.issuer) as session:
            yield Auth0Caller(tenant, session)


@pytest.fixture
async def auth0():
    async with open_caller() as caller:
        yield caller


async def test_there_are_two_keys_one_that_signs_and_one_that_will(auth0):
    keys = (await auth0.json("GET", JWKS))["keys"]

    assert [key["kid"] for key in keys] == [key.kid for key in KEYS]
    for key in keys:
        assert key.keys() == {"kty", "use", "alg", "kid", "n", "e"}  # no private parameters
        assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")


async def test_a_token_has_what_auth0_puts_in(auth0):
    token = await auth0.read(await auth0.token())

    assert token.header == {"alg": "RS256", "typ": "JWT", "kid": KEYS[0].kid}
    assert token.claims == {
        "iss": auth0.tenant.issuer,
        "sub": "auth0|local",
        "aud": AUDIENCE,
        "iat": NOW,
        "exp": NOW + 86_400,
        "azp": "local",
        "scope": "openid profile",
    }


async def test_a_token_can_be_of_anybody_and_of_any_kind(auth0):
    wish = {"sub": "auth0|eve", "expires_in": -60, "claims": {"aud": None, "x": 1}}
    token = await auth0.read(await auth0.token(**wish, header={"typ": None}))

    assert (token.claims["sub"], token.claims["exp"], token.claims["x"]) == (
        "auth0|eve",
        NOW - 60,
        1,
    )
    assert "aud" not in token.claims
    assert "typ" not in token.header
    assert "sub" not in (await auth0.read(await auth0.token(sub=None))).claims


async def test_a_token_can_be_bound_to_a_key(auth0):
    _, text = await auth0.ask("GET", "/stand-in/tokens", params={"jkt": "thumbprint"})
    posted = await auth0.token(jkt="thumbprint")

    for token in (text, posted):
        assert (await auth0.read(token)).claims["cnf"] == {"jkt": "thumbprint"}


async def test_a_shell_gets_a_token_as_plain_text(auth0):
    _, mine = await auth0.ask("GET", "/stand-in/tokens")
    _, theirs = await auth0.ask("GET", "/stand-in/tokens", params={"sub": "auth0|eve"})

    assert (await auth0.read(mine.decode())).claims["sub"] == "auth0|local"
    assert (await auth0.read(theirs.decode())).claims["sub"] == "auth0|eve"


async def test_a_token_by_a_strangers_key_is_by_none_of_the_keys(auth0):
    with pytest.raises((JoseError, ValueError)):
        await auth0.read(await auth0.token(key="stranger"))


async def test_keys_rotate_and_the_old_one_stays_until_it_is_revoked(auth0):
    first, second = await auth0.kids()
    old = await auth0.token()
    rotated = (await auth0.json("POST", "/stand-in/rotate"))["kids"]

    current, following, previous = await auth0.kids()
    assert (current, previous) == (second, first)
    assert following not in {first, second}
    assert rotated == [current, following, previous]
    assert (await auth0.read(await auth0.token())).header["kid"] == second
    assert (await auth0.read(await auth0.token(key="next"))).header["kid"] == following
    assert (await auth0.read(await auth0.token(key="previous"))).header["kid"] == first
    assert (await auth0.read(old)).claims["sub"] == "auth0|local"

    await auth0.json("POST", "/stand-in/revoke-previous")
    assert await auth0.kids() == [current, following]
    with pytest.raises((JoseError, ValueError)):
        await auth0.read(old)


@pytest.mark.parametrize("encoding", ["json", "data"])
@pytest.mark.parametrize(
    ("form_fields", "sub"),
    [
        pytest.param({}, "local@clients", id="nobody"),
        pytest.param({"client_id": "m2m"}, "m2m@clients", id="a client"),
        pytest.param({"client_id": "m2m", "sub": "auth0|ada"}, "auth0|ada", id="for a user"),
    ],
)
async def test_a_client_gets_a_token_for_its_credentials(auth0, encoding, form_fields, sub):
    form = {"grant_type": "client_credentials", "client_secret": "any"} | form_fields
    answer = await auth0.json("POST", "/oauth/token", **{encoding: form})

    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 86_400)
    assert (await auth0.read(answer["access_token"])).claims["sub"] == sub


async def test_another_grant_gets_no_token(auth0):
    status, body = await auth0.ask("POST", "/oauth/token", {"grant_type": "password"})

    assert status == 403
    assert msgspec.json.decode(body)["error"] == "unsupported_grant_type"


async def test_its_endpoints_can_be_discovered(auth0):
    found = await auth0.json("GET", "/.well-known/openid-configuration")

    assert found["issuer"] == auth0.tenant.issuer
    assert found["jwks_uri"] == auth0.tenant.issuer + JWKS[1:]
    assert found["token_endpoint"] == auth0.tenant.issuer + "oauth/token"


async def test_an_outage_hides_the_keys_until_it_is_over(auth0):
    await auth0.json("POST", "/stand-in/outage", {})
    assert (await auth0.ask("GET", JWKS)) == (503, b"")
    await auth0.json("POST", "/stand-in/outage", {"status": 500})
    assert (await auth0.ask("GET", JWKS)) == (500, b"")
    await auth0.json("POST", "/stand-in/outage", {"status": "cut"})
    with pytest.raises(aiohttp.ClientConnectionError):
        await auth0.ask("GET", JWKS)

    await auth0.json("POST", "/stand-in/outage", {"on": False})
    assert len(await auth0.kids()) == 2


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        ("html", (200, b"<html>Log in</html>")),
        ("no keys", (200, b'{"keys":[{"kty":"EC","kid":"1","alg":"ES256"}]}')),
        (302, (302, b"")),
    ],
)
async def test_something_else_may_answer_where_the_keys_are(auth0, status, answer):
    await auth0.json("POST", "/stand-in/outage", {"status": status})

    assert await auth0.ask("GET", JWKS, allow_redirects=False) == answer


async def test_its_clock_may_be_wrong(auth0):
    await auth0.json("POST", "/stand-in/clock", {"ahead_seconds": 3600})
    async with auth0.session.get(JWKS) as answer:
        server_time = parsedate_to_datetime(answer.headers["Date"])

    assert timedelta(minutes=59) < server_time - datetime.now(UTC) < timedelta(minutes=61)


async def test_it_tells_how_often_it_was_asked(auth0):
    await auth0.kids()
    await auth0.token()
    await auth0.ask("GET", "/stand-in/tokens")
    await auth0.json("POST", "/oauth/token", {"grant_type": "client_credentials"})

    state = await auth0.json("GET", "/stand-in/state")
    assert state == {"asked": {"jwks": 1, "token": 3}, "kids": [key.kid for key in KEYS]}


@pytest.mark.parametrize(
    ("path", "wish"),
    [
        pytest.param("tokens", {"name": "eve"}, id="a field that nobody knows"),
        pytest.param("tokens", {"key": "first"}, id="a key that nobody knows"),
        pytest.param("tokens", {"key": "previous"}, id="a key that is not there"),
        pytest.param("tokens", {"sub": 7}, id="a name that is no text"),
        pytest.param("outage", {"status": "slow"}, id="an outage that nobody knows"),
    ],
)
async def test_a_wish_that_nobody_understands_is_refused(auth0, path, wish):
    status, _ = await auth0.ask("POST", f"/stand-in/{path}", wish)

    assert status == 400


async def test_keys_are_kept_over_a_restart_and_nobody_else_reads_them(tmp_path):
    file = tmp_path / "state" / "auth0.json"
    async with open_caller(file) as auth0:
        before = await auth0.kids()
        old = await auth0.token()
    assert file.stat().st_mode & 0o777 == 0o600

    async with open_caller(file) as auth0:
        assert await auth0.kids() == before
        claims = (await auth0.read(old)).claims
        assert claims["sub"] == "auth0|local"
        await auth0.json("POST", "/stand-in/rotate")
        rotated = await auth0.kids()

    async with open_caller(file) as auth0:
        assert await auth0.kids() == rotated
        assert (await auth0.read(old)).header["kid"] == before[0]
        await auth0.json("POST", "/stand-in/revoke-previous")
        revoked = await auth0.kids()

    async with open_caller(file) as auth0:
        assert await auth0.kids() == revoked == rotated[:2]


async def test_an_outage_is_over_after_a_number_of_requests(auth0):
    await auth0.ask("POST", "/stand-in/outage", {"status": 500, "count": 2})
    statuses = [(await auth0.ask("GET", JWKS))[0] for _ in range(3)]

    assert statuses == [500, 500, 200]
    assert not (await auth0.json("GET", "/stand-in/outage"))["on"]


async def test_without_a_status_the_keys_are_only_late(auth0):
    await auth0.ask("POST", "/stand-in/outage", {"status": None, "seconds": 30})
    with pytest.raises(TimeoutError):
        await auth0.ask("GET", JWKS, timeout=aiohttp.ClientTimeout(total=0.2))
    await auth0.ask("POST", "/stand-in/outage", {"status": None, "seconds": 0.01})

    assert len(await auth0.kids()) == 2


async def test_a_shell_can_get_a_token_that_has_expired(auth0):
    _, token = await auth0.ask("GET", "/stand-in/tokens", params={"expires_in": "-60"})

    assert (await auth0.read(token.decode())).claims["exp"] == NOW - 60


@pytest.mark.parametrize("query", [{"expires_in": "soon"}, {"colour": "red"}, {"key": "previous"}])
async def test_a_token_that_cannot_be_is_an_invalid_request(auth0, query):
    status, _ = await auth0.ask("GET", "/stand-in/tokens", params=query)

    assert status == 400
