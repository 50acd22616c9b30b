"""Exports by the thousand: one is made, the others are cast from it under names of their own."""

import random
from collections.abc import Iterator

from tests.chaos.oracle import uuid_of
from tests.chaos.phones import NOISE_BYTES, record, wrapped

PLACE = "{name}"  # of the name, in the uuid of each line
CHUNKS = 64  # as many as a batch may have


class Mould:
    """An export of so many lines. A cast differs from it in the uuids of its lines only."""

    def __init__(self, chance: random.Random, lines: int, noise_bytes: int = NOISE_BYTES) -> None:
        self.lines = lines
        made = (record(uuid_of(PLACE, line), chance, noise_bytes) for line in range(lines))
        self._text = b"\n".join(made) + b"\n"

    def cast(self, name: str) -> bytes:
        """Its NDJSON."""
        return self._text.replace(PLACE.encode(), name.encode())

    def body(self, name: str) -> bytes:
        """As JSON."""
        return wrapped(self.cast(name))

    def batch(self, names: list[str]) -> Iterator[bytes]:
        """As a batch, a chunk at a time: whoever sends it never holds it."""
        for place, name in enumerate(names):
            yield (b"," if place else b'{"chunks":[') + self.body(name)
        yield b"]}"
