"""HTTP sessions to other systems: proxies, CA bundles, and no credentials from netrc."""

import random
import re
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from atlas.core.diagnosis import CheckFailed
from atlas.core.errors import AuthUnavailable, ConfigurationError, FoundryError
from atlas.local import auth0 as local_auth0
from atlas.local import foundry as local_foundry
from atlas.local.foundry.state import DATASET
from atlas.outside import auth0, foundry, public_endpoint
from atlas.outside.network import Proxies, Transport, open_session, read_proxies
from tests.support.certificates import signed_by_an_authority
from tests.support.fakes import at_once
from tests.support.forward_proxy import forward_proxy

HOST = "atlas-far-end.test"  # only the proxy resolves this name
RING = local_auth0.KeyRing.generate()
LIMITS = foundry.CallLimits(4, 10_000, 5.0)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Remove proxy, certificate and netrc settings from the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@asynccontextmanager
async def open_server(app, tls=None):
    """Serve an app on loopback; yield its port and the headers of all requests."""
    header_log = []

    @web.middleware
    async def record_headers(request, handler):
        header_log.append(request.headers)
        return await handler(request)

    app.middlewares.append(record_headers)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1], header_log
    finally:
        await runner.cleanup()


def clock():
    return datetime.now(UTC)


def build_target(host, ca_bundle="", uses_proxy=True):
    client = foundry.Credentials(f"{host}/multipass/api/oauth2/token", "local", "local-secret")
    return foundry.FoundryTarget(
        host, DATASET, "master", Transport(str(ca_bundle), uses_proxy)
    ), client


def open_dataset(host, ca_bundle="", uses_proxy=True):
    target, client = build_target(host, ca_bundle, uses_proxy)
    return foundry.open_dataset(
        target, client, LIMITS, lambda _: None, clock, time.monotonic, random.random, at_once
    )


def put_login_into_netrc(environment, folder, *hosts):
    """Write a netrc file that aiohttp would take credentials from if it were allowed to."""
    file = folder / "netrc"
    lines = [f"machine {host} login NETRC-LOGIN password NETRC-SECRET\n" for host in hosts]
    file.write_text("".join(lines))
    file.chmod(0o600)
    environment.setenv("NETRC", str(file))


async def test_foundry_is_reached_through_the_proxy_with_our_own_ca(tmp_path, environment):
    authority = signed_by_an_authority(tmp_path, HOST)
    app = local_foundry.build_application(local_foundry.FoundryEmulator(tmp_path / "foundry"))
    async with forward_proxy() as proxy, open_server(app, authority.server) as (port, header_log):
        environment.setenv("HTTPS_PROXY", f"http://ada:p%40ss@127.0.0.1:{proxy.port}")
        put_login_into_netrc(environment, tmp_path, HOST, "127.0.0.1")
        host = f"https://{HOST}:{port}"
        async with open_dataset(host, authority.bundle) as dataset:
            rid = await dataset.begin()
            assert await dataset.put(rid, "healthkit/raw/a.ndjson", b"row\n")
            assert (await dataset.commit(rid)).head == rid
        target, client = build_target(host, authority.bundle)
        async with foundry.open_inspection(target, client, clock, time.monotonic) as stack:
            await stack.fetch_token()
            assert (await stack.dataset.take_snapshot()).head == rid

    assert set(proxy.asked) == {("CONNECT", f"{HOST}:{port}")}
    assert set(proxy.logins) == {"Basic YWRhOnBAc3M="}
    token, *calls = header_log
    assert "Authorization" not in token
    assert all("Proxy-Authorization" not in each for each in header_log)
    assert all(each.get("Authorization", "Bearer ").startswith("Bearer ") for each in calls)


async def test_auth0_is_reached_through_the_proxy_with_our_own_ca(tmp_path, environment):
    authority, tenant = (
        signed_by_an_authority(tmp_path, HOST),
        local_auth0.Auth0Emulator("", ring=RING),
    )
    app = local_auth0.build_application(tenant)
    async with forward_proxy() as proxy, open_server(app, authority.server) as (port, header_log):
        environment.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")  # no scheme, as for curl
        put_login_into_netrc(environment, tmp_path, HOST)
        tenant.issuer = f"https://{HOST}:{port}/"
        arguments = auth0.TokenPolicy((tenant.issuer,), (tenant.audience,)), clock
        bundle = Transport(str(authority.bundle))
        async with auth0.open_identities(
            *arguments, time.monotonic, lambda _: None, bundle
        ) as identities:
            user = await identities.identify_user(
                tenant.issue_token(local_auth0.TokenRequest(sub="auth0|ada"))
            )
        async with auth0.open_issuer_inspection(*arguments, bundle) as issuer:
            assert await issuer.fetch_keys(tenant.issuer)

    assert user.sub == "auth0|ada"
    assert proxy.asked == [("CONNECT", f"{HOST}:{port}")] * 2
    assert all("Authorization" not in each for each in header_log)
    assert all(re.fullmatch(r"atlas/[0-9.]+\S*", each["User-Agent"]) for each in header_log)


async def test_ssl_cert_file_is_trusted_as_well(tmp_path, environment):
    authority, tenant = (
        signed_by_an_authority(tmp_path, HOST),
        local_auth0.Auth0Emulator("", ring=RING),
    )
    app = local_auth0.build_application(tenant)
    async with forward_proxy() as proxy, open_server(app, authority.server) as (port, _):
        environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        tenant.issuer = f"https://{HOST}:{port}/"
        arguments = auth0.TokenPolicy((tenant.issuer,), (tenant.audience,)), clock
        async with auth0.open_issuer_inspection(*arguments) as issuer:
            with pytest.raises(CheckFailed, match="an unknown issuer"):
                await issuer.fetch_keys(tenant.issuer)
        environment.setenv("SSL_CERT_FILE", str(authority.bundle))
        async with auth0.open_issuer_inspection(*arguments) as issuer:
            assert await issuer.fetch_keys(tenant.issuer)


async def test_plain_http_goes_through_its_proxy_too(tmp_path, environment):
    app = local_foundry.build_application(local_foundry.FoundryEmulator(tmp_path))
    async with forward_proxy() as proxy, open_server(app) as (port, _):
        environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with open_dataset(f"http://{HOST}:{port}") as dataset:
            assert (await dataset.take_snapshot()).head == ""
        async with public_endpoint.open_public_endpoint(f"http://{HOST}:{port}") as door:
            with pytest.raises(CheckFailed, match="is not Atlas"):
                await door.health()

    assert {target for _, target in proxy.asked} == {f"http://{HOST}:{port}"}
    assert {method for method, _ in proxy.asked} == {"POST", "GET"}


@pytest.mark.parametrize("exempt", [HOST, "localhost,.test", "*"])
async def test_no_proxy_is_respected(tmp_path, environment, exempt):
    """Only the proxy resolves the host name, so a direct call fails."""
    tenant = local_auth0.Auth0Emulator(f"http://{HOST}:1/", ring=RING)
    async with forward_proxy() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            environment.setenv(name, f"http://127.0.0.1:{proxy.port}")
        environment.setenv("NO_PROXY", exempt)
        async with open_dataset(f"http://{HOST}:1") as dataset:
            with pytest.raises(FoundryError, match="ClientConnectorDNSError"):
                await dataset.take_snapshot()
        arguments = auth0.TokenPolicy((tenant.issuer,), (tenant.audience,)), clock
        async with auth0.open_identities(*arguments, time.monotonic, lambda _: None) as identities:
            with pytest.raises(AuthUnavailable):
                await identities.check_ready()

    assert proxy.asked == []


async def test_this_machine_is_reached_through_the_proxy_too_unless_no_proxy_says_otherwise(
    tmp_path, environment
):
    put_login_into_netrc(environment, tmp_path, "127.0.0.1", "localhost")
    app = local_foundry.build_application(local_foundry.FoundryEmulator(tmp_path / "foundry"))
    async with open_server(app) as (port, _), forward_proxy() as proxy:
        environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with open_dataset(f"http://127.0.0.1:{port}") as dataset:
            assert (await dataset.take_snapshot()).head == ""
        assert len(proxy.asked) == 2
        environment.setenv("NO_PROXY", "127.0.0.1,localhost")
        for name in ("127.0.0.1", "localhost"):
            async with open_dataset(f"http://{name}:{port}") as dataset:
                assert (await dataset.take_snapshot()).head == ""
        assert len(proxy.asked) == 2


async def test_a_proxy_that_is_not_to_be_used_is_not(tmp_path, environment):
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    app = local_foundry.build_application(local_foundry.FoundryEmulator(tmp_path / "foundry"))
    async with (
        open_server(app) as (port, _),
        open_dataset(f"http://127.0.0.1:{port}", uses_proxy=False) as dataset,
    ):
        assert (await dataset.take_snapshot()).head == ""


async def test_a_proxy_that_is_not_there_is_named(environment):
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    policy = auth0.TokenPolicy((f"https://{HOST}/",), ("audience",))
    async with auth0.open_issuer_inspection(policy, clock) as issuer:
        with pytest.raises(CheckFailed, match="cannot be reached through the proxy") as caught:
            await issuer.fetch_keys(f"https://{HOST}/")

    assert "HTTPS_PROXY" in caught.value.outcome.to_do


@pytest.mark.parametrize("address", ["http://", "ftp://proxy:21", "http://[bad", "socks5://p:1080"])
def test_a_proxy_that_cannot_be_one_stops_the_start(environment, address):
    environment.setenv("HTTPS_PROXY", address)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY must be the URL of a proxy"):
        read_proxies()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_a_bundle_that_cannot_be_read_stops_the_start(tmp_path, content):
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        ConfigurationError, match=r"ATLAS_CA_BUNDLE must be a readable file .*bundle\.pem"
    ):
        async with open_session(Transport(str(file))):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    ("url", "is_proxied"),
    [
        ("https://stack.example.com/", True),
        ("http://stack.example.com/", False),  # it has its own proxy setting, or none
        ("https://inside.example.org/", False),
        ("https://127.0.0.1:8443/", True),
        ("https://127.9.9.9/", True),
        ("https://[::1]/", True),
        ("https://localhost/", True),
        ("https://10.0.0.1/", True),
    ],
)
def test_the_proxy_goes_by_the_scheme_and_the_host(environment, url, is_proxied):
    environment.setenv("NO_PROXY", "example.org")
    proxies = Proxies({"https": URL("http://proxy:3128")})

    assert (proxies.find(URL(url)) is not None) == is_proxied


def test_no_other_place_opens_a_session():
    opens = [
        path.name
        for path in Path(foundry.__file__).parent.parent.rglob("*.py")
        if "ClientSession(" in path.read_text(encoding="utf-8")
    ]
    assert opens == ["network.py"]
