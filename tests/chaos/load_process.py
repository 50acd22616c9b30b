"""A flood by one user, from a separate process (`load_worker.py`), because it occupies a core."""

import asyncio
import sys

import msgspec

from tests.chaos.oracle import Oracle, Reply
from tests.chaos.service_process import Broken

END_SECONDS = 60.0


class LoadResult(msgspec.Struct):
    """Exports sent, with their lines, the promises received, and the answers by status."""

    sent: dict[str, int]
    given_up: set[str]
    promised: dict[str, Reply]
    statuses: dict[int, int]
    without_retry_after: int
    without_rate: int

    def record_in(self, oracle: Oracle) -> None:
        for name, lines in self.sent.items():
            oracle.record_sent(name, lines)
        for name, reply in self.promised.items():
            oracle.record_answer(name, reply)
        oracle.given_up |= self.given_up


async def run_load_worker(
    url: str, token: str, name: str, phones: int, seconds: float
) -> LoadResult:
    """Run the worker until it ends. Raises Broken."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.load_worker", url, name, str(phones), str(seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds + END_SECONDS):
            output, _ = await process.communicate(token.encode())
        return msgspec.json.decode(output, type=LoadResult)
    except (TimeoutError, msgspec.DecodeError) as error:
        raise Broken("The flood came to no good end.") from error
    finally:
        if process.returncode is None:
            process.kill()
