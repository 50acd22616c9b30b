"""Derives the uuid of a sample from its content, because Apple's export has none.

The parts are in UTC: after travel, the next export has other local times for the same sample.
"""

import hashlib
import uuid

NAMESPACE = uuid.UUID("6c6f0a6b-5d0e-5b9f-9b1e-0f6a54d2c1c7").bytes  # never change it
SEPARATOR = "\x1f"  # not allowed in XML, so two different lists cannot join to the same text
VARIANT = {digit: "89AB"[int(digit, 16) & 3] for digit in "0123456789ABCDEF"}


def make_uuid(*parts: str) -> str:
    """Make a uuid of version 5 (RFC 9562), in upper case like HealthKit's. `uuid` is slower."""
    name = NAMESPACE + SEPARATOR.join(parts).encode()
    digits = hashlib.sha1(name, usedforsecurity=False).hexdigest().upper()
    return (
        f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}"
        f"-{VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    )
