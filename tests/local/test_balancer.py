"""The balancer of `atlas local`: requests go to replicas that are ready."""

import gzip
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from atlas.local.balancer import READY, run_balancer
from atlas.local.postgres.server import find_free_port

HOST = "127.0.0.1"
UNREADABLE = gzip.compress(b"lines")


@dataclass
class Replica:
    name: str
    is_ready: bool = True
    status: int = 202
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    async def handle(self, request):
        if request.path == READY:
            return web.Response(status=200 if self.is_ready else 503)
        self.bodies.append(await request.read())
        headers = {"X-Replica": self.name, "X-Seen": request.headers.get("Content-Encoding", "")}
        return web.json_response({"path": request.path_qs}, status=self.status, headers=headers)


@asynccontextmanager
async def open_replicas(*replicas):
    async with AsyncExitStack() as stack:
        for replica in replicas:
            server = web.Server(replica.handle, auto_decompress=False)
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, HOST, 0).start()
            replica.url = f"http://{HOST}:{runner.addresses[0][1]}"
        yield [replica.url for replica in replicas]


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


async def send(client, url, body=UNREADABLE, **headers):
    async with client.post(f"{url}/export?a=b", data=body, headers=headers) as response:
        return response.status, response.headers, await response.json()


async def test_replicas_take_turns(client):
    two = Replica("one"), Replica("two")
    async with open_replicas(*two) as urls, run_balancer(urls) as url:
        names = [(await send(client, url))[1]["X-Replica"] for _ in range(4)]

    assert sorted(names) == ["one", "one", "two", "two"]


async def test_body_headers_path_and_answer_pass_unchanged(client):
    replica = Replica("one")
    async with open_replicas(replica) as urls, run_balancer(urls) as url:
        status, headers, body = await send(client, url, **{"Content-Encoding": "gzip"})

    assert (status, body) == (202, {"path": "/export?a=b"})
    assert headers.getall("Content-Type") == ["application/json; charset=utf-8"]
    assert (replica.bodies, headers["X-Seen"]) == ([UNREADABLE], "gzip")


async def test_a_replica_that_is_not_ready_gets_no_request_while_another_is(client):
    two = Replica("one", is_ready=False), Replica("two")
    async with open_replicas(*two) as urls, run_balancer(urls) as url:
        for _ in range(4):
            await send(client, url)

    assert [len(replica.bodies) for replica in two] == [0, 4]


async def test_a_request_that_a_replica_does_not_take_goes_to_the_next_one(client):
    draining, taking = Replica("one", status=503), Replica("two")
    gone = f"http://{HOST}:{find_free_port()}"
    async with open_replicas(draining, taking) as urls, run_balancer([gone, *urls]) as url:
        answers = [await send(client, url) for _ in range(6)]

    assert [status for status, *_ in answers] == [202] * 6
    assert taking.bodies == [UNREADABLE] * 6
    assert draining.bodies


async def test_the_answer_is_503_if_no_replica_takes_the_request(client):
    gone = f"http://{HOST}:{find_free_port()}"
    async with run_balancer([gone]) as url, client.post(url, data=b"x") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")


async def test_a_stream_reaches_a_replica(client):
    replica = Replica("one")

    async def generate():
        for _ in range(3):
            yield b"line\n"

    async with open_replicas(replica) as urls, run_balancer(urls) as url:
        await send(client, url, generate())

    assert replica.bodies == [b"line\n" * 3]
