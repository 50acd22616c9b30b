"""The cost of passing a message from one actor to the next."""

import time
from dataclasses import dataclass

import anyio

from atlas.runtime import Stages

MESSAGES, ROUNDS, SHORT, LONG = 1_000, 7, 1, 11


@dataclass(frozen=True, slots=True)
class PassOn:
    async def handle(self, message: int, /) -> int:
        return message


async def time_messages(stages: int) -> float:
    """Return the seconds that all messages take, one by one, through this number of stages."""

    def fail(_name: str, error: Exception) -> None:
        raise error

    async with anyio.create_task_group() as tasks:
        spawner = Stages(tasks, fail)
        address = spawner.start_sink(PassOn())
        for _ in range(stages - 1):
            address = spawner.start_stage(PassOn(), address)
        async with address.channel:
            began = time.perf_counter()
            for message in range(MESSAGES):
                await address.ask(message)
            return time.perf_counter() - began


def measure() -> list[tuple[str, str, str]]:
    def best(stages: int) -> float:
        options = {"use_uvloop": True}
        return min(anyio.run(time_messages, stages, backend_options=options) for _ in range(ROUNDS))

    hop = (best(LONG) - best(SHORT)) / (LONG - SHORT) / MESSAGES
    return [("a hop from actor to actor", f"{1e6 * hop:.1f} µs", "10 µs or less")]
