"""Exports by the thousand: one is made, the others are cast from it under names of their own."""

import random
from collections.abc import Iterator

from tests.chaos.clients import NOISE_BYTES, build_record, wrap
from tests.chaos.oracle import derive_uuid

NAME_PLACEHOLDER = "{name}"  # of the name, in the uuid of each line
CHUNKS = 64  # as many as a batch may have


class ExportTemplate:
    """An export of so many lines. A cast differs from it in the uuids of its lines only."""

    def __init__(self, rng: random.Random, lines: int, noise_bytes: int = NOISE_BYTES) -> None:
        self.lines = lines
        made = (
            build_record(derive_uuid(NAME_PLACEHOLDER, line), rng, noise_bytes)
            for line in range(lines)
        )
        self._text = b"\n".join(made) + b"\n"

    def render(self, name: str) -> bytes:
        """Its NDJSON."""
        return self._text.replace(NAME_PLACEHOLDER.encode(), name.encode())

    def render_json(self, name: str) -> bytes:
        """As JSON."""
        return wrap(self.render(name))

    def render_batch(self, names: list[str]) -> Iterator[bytes]:
        """As a batch, a chunk at a time: whoever sends it never holds it."""
        for index, name in enumerate(names):
            yield (b"," if index else b'{"chunks":[') + self.render_json(name)
        yield b"]}"
