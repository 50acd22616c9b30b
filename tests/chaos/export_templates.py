"""Exports by the thousand, rendered from one template under different names."""

import random
from collections.abc import Iterator

from tests.chaos.clients import NOISE_BYTES, build_record, wrap
from tests.chaos.oracle import derive_uuid

NAME_PLACEHOLDER = "{name}"  # of the export's name, in the uuid of each line
CHUNKS = 64  # the maximum of a batch


class ExportTemplate:
    """An export of `lines` lines. Renderings differ only in the uuids of their lines."""

    def __init__(self, rng: random.Random, lines: int, noise_bytes: int = NOISE_BYTES) -> None:
        self.lines = lines
        made = (
            build_record(derive_uuid(NAME_PLACEHOLDER, line), rng, noise_bytes)
            for line in range(lines)
        )
        self._text = b"\n".join(made) + b"\n"

    def render(self, name: str) -> bytes:
        """Return the export as NDJSON."""
        return self._text.replace(NAME_PLACEHOLDER.encode(), name.encode())

    def render_json(self, name: str) -> bytes:
        """Return the export as a JSON body."""
        return wrap(self.render(name))

    def render_batch(self, names: list[str]) -> Iterator[bytes]:
        """Yield a batch chunk by chunk, so that the sender never holds all of it."""
        for index, name in enumerate(names):
            yield (b"," if index else b'{"chunks":[') + self.render_json(name)
        yield b"]}"
