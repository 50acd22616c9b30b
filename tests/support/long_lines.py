"""Exports of long lines, which fill several parts of a stream."""

import json
import random

LINE_BYTES = 700_000  # six to a part
ROWS_BYTES = 710_000  # of a row, with its line in it
MIB = 1024 * 1024


def lines(*uuids, size=LINE_BYTES):
    return b"".join(line(uuid, size) for uuid in uuids)


def line(uuid, size=LINE_BYTES):
    """The line compresses forty times; a hundred times would count as a decompression bomb."""
    head = json.dumps({"uuid": uuid})[:-1].encode() + b',"metadata":{"HKNote":"'
    head += random.Random(uuid).randbytes(size // 40).hex().encode()
    return head + b"." * (size - len(head) - 4) + b'"}}\n'


THREE_PARTS = lines(*map(str, range(15)))  # 6, 6 and 3 lines


def noisy(count):
    """Return lines that hardly compress."""
    chance = random.Random(1)
    return b"".join(
        line(str(n), LINE_BYTES // 2)[:-4]
        + chance.randbytes(LINE_BYTES // 4).hex().encode()
        + b'"}}\n'
        for n in range(count)
    )
