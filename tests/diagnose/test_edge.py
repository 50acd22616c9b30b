"""Step 4: the public URL, and proxies in front of Atlas."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from atlas.core.identifiers import API_PREFIX
from tests.diagnose.faults import NOBODY
from tests.support.running_system import HOST, first_failing, step


def build_proxied_app(
    limit: int = 2**40, server: str = "nginx", status: int = 413, **health: object
):
    """Return a fake Atlas behind a proxy that accepts bodies of up to `limit` bytes.

    A larger one gets `status`; 0 cuts the connection.
    """

    async def health_live(_request):
        return web.json_response({"service": "atlas", "version": "9.9"} | health)

    async def health_ready(_request):
        why = health.get("not_ready")
        check = {"ok": why is None} | ({"reason": why} if why else {})
        return web.json_response({"checks": {"journal": check}}, status=503 if why else 200)

    async def export(request):
        if request.content_length > limit:
            if status == 0:
                request.transport.abort()
            return web.Response(status=status or 500, text="<html>", headers={"Server": server})
        id = {"X-Correlation-Id": request.headers["X-Correlation-Id"]}
        return web.json_response({"error": {"code": "UNAUTHORIZED"}}, status=401, headers=id)

    app = web.Application(client_max_size=2**30)
    app.router.add_get("/health", health_live)
    app.router.add_get("/health/ready", health_ready)
    app.router.add_post(f"{API_PREFIX}/export", export)
    return app


def build_fixed_app(status: int, body: str = "<html>", **headers: str):
    async def answer(_request):
        return web.Response(status=status, text=body, headers=headers, content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{anywhere:.*}", answer)
    return app


MIB = 1024 * 1024


FRONTS = [
    pytest.param(
        build_proxied_app(MIB), "refuses bodies of 2 MiB (413)", "client_max_body_size", id="1m"
    ),
    pytest.param(build_proxied_app(10 * MIB), "refuses bodies of 32 MiB", "32m", id="10m"),
    pytest.param(
        build_proxied_app(MIB, status=502),
        "something else answers 502",
        "proxy",
        id="a proxy's 502",
    ),
    pytest.param(build_proxied_app(MIB, status=0), "connection is cut", "limit", id="cut off"),
    pytest.param(
        build_proxied_app(not_ready="It is full."),
        "cannot accept exports now",
        "step 5",
        id="not ready",
    ),
    pytest.param(build_fixed_app(200), "is not Atlas", "--url", id="a page"),
    pytest.param(build_fixed_app(404), "answers 404", "--url", id="nothing there"),
    pytest.param(
        build_fixed_app(502, Server="nginx"), "does not reach Atlas", "port", id="Atlas is down"
    ),
    pytest.param(
        build_fixed_app(301, Location="https://b.test/health"),
        "redirects to b.test",
        "do not follow redirects",
        id="a redirect",
    ),
]


@pytest.mark.parametrize(("app", "reason", "to_do"), FRONTS)
async def test_what_stands_in_front_of_atlas_is_named(system, app, reason, to_do):
    async with TestServer(app) as server:
        found = await system.diagnosed(url=str(server.make_url("")))

    assert first_failing(found) == 4
    assert reason in step(found, 4).reason
    assert to_do in step(found, 4).to_do


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"http://{HOST}:1", "refuses"),
        (NOBODY, "cannot be resolved"),
        ("nonsense", "not an address"),
        ("ftp://a.test", "not an address"),
        ("http://", "not an address"),
        ("http://a.test:port", "not an address"),
    ],
)
async def test_an_address_where_nobody_is_is_named(system, url, reason):
    found = await system.diagnosed(url=url)

    assert first_failing(found) == 4
    assert reason in step(found, 4).reason


async def test_a_proxy_that_lets_all_through_is_no_failure(system):
    async with TestServer(build_proxied_app()) as server:
        found = await system.diagnosed(url=str(server.make_url("")))

    assert step(found, 4).verdict == "pass"
    assert dict(step(found, 4).evidence)["version"] == "9.9"
