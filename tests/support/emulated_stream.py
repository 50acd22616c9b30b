"""A stream in the emulator of Foundry, with our columns."""

import msgspec

from atlas.local.foundry import FoundryEmulator
from atlas.local.foundry.stream_state import EmulatedStream
from atlas.outside.foundry import build_create_request

STREAM = "ri.foundry.main.dataset.00000000-0000-0000-0000-00000000beef"
FOLDER = "ri.compass.main.folder.1"


def emulate_stream(emulator: FoundryEmulator, rid: str = STREAM) -> EmulatedStream:
    """Create a stream for Atlas's records in the emulator."""
    request = msgspec.json.decode(
        msgspec.json.encode(build_create_request(FOLDER, "live", "LOW_LATENCY"))
    )
    emulator.streams[rid] = EmulatedStream(rid, "live", FOLDER, "master", request["schema"])
    return emulator.streams[rid]
