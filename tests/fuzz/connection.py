"""A raw HTTP/1.1 connection to the service, with one request after another."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.fuzz.mutations import Request

ANSWER_SECONDS = 30.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ends_connection(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class Connection:
    """Connects when needed, and again after the server has closed the connection."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: Request) -> Answer:
        """Send a request. Raises TimeoutError, ConnectionError or IncompleteReadError without an
        answer.
        """
        async with asyncio.timeout(ANSWER_SECONDS):
            if self._streams is None:
                host, port = self._address.hostname, self._address.port
                self._streams = await asyncio.open_connection(host, port)
            reader, writer = self._streams
            writer.write(request.encode())
            answer = await read_answer(reader, has_body=request.method != "HEAD")
        if answer.ends_connection or request.is_odd:
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]) if has_body else 0)
    return Answer(int(status.split()[1]), headers, body)
