"""Derives the uuid of a sample, because Apple's export has none.

Version 2 identifies a sample by what does not depend on the phone's settings: type, source, device,
dates in UTC, and metadata without numbers that have a unit. Equal ones are numbered in the order of
the export. Value and unit are not part of it: with another unit, the export prints another value.
Version 1, in `printed_identity`, is a digest of what is printed.
"""

import hashlib
import re
import uuid
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

from atlas.apple.dates import to_utc
from atlas.apple.numerals import simplify

NAMESPACE = uuid.UUID("6c6f0a6b-5d0e-5b9f-9b1e-0f6a54d2c1c7").bytes  # never change it
NAMESPACE_2 = uuid.UUID("b3a4a8f0-2f5e-5d43-8c0f-7a7e3d9c51e2").bytes  # nor this one
SEPARATOR = "\x1f"  # not allowed in XML, so two different lists cannot join to the same text
VARIANT = {digit: "89AB"[int(digit, 16) & 3] for digit in "0123456789ABCDEF"}
IDENTITIES = (1, 2)
IDENTITY_DEFAULT = 2

FILTER_WORDS, INNER_FILTER_WORDS = 2**20, 2**16  # of 64 bits
# 64-bit words with one or two bits set, by twelve bits of a digest
TWO_BITS = [1 << (number & 63) | 1 << (number >> 6) for number in range(4_096)]
NUMBERS_MAX = 20_000  # of samples that have an equal
TRIES_MAX = 1_000  # of numbers, in a filter that is full: the export has a hundred million samples
METADATA_CACHED = 100  # characters; some apps store documents
PRIVATE_KEY = "_HK"  # Apple's own, which not every version of iOS exports
# A unit follows a space, or does not begin with ASCII, as in 75°F. 0645B3C5 is an identifier.
NUMBER_WITH_UNIT = re.compile(
    r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?(?:\s+\S|[^\x00-\x7f]).*", re.ASCII | re.DOTALL
)


class Hash(Protocol):
    """The methods of a hash of hashlib that are used here."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Identity(Protocol):
    """Derives the uuids of one pass over an export."""

    def identify(
        self,
        attributes: Mapping[str, str],
        source: tuple[str, str],
        moments: tuple[str, str, str],
        metadata: dict[str, object] | None,
        printed: tuple[str, str],
    ) -> str:
        """Return the uuid of a sample. `source` is its type, and its source and device.

        `moments` are its start, end and creation in UTC; `printed` are unit and value.
        """
        ...

    def identify_electrocardiogram(
        self, kind: str, header: Mapping[str, str], start: str, count: int
    ) -> str:
        """Return the uuid of an electrocardiogram of `count` voltages."""
        ...


class StableIdentity:
    """Version 2. Equal samples have the numbers of their order, wherever in the export they are.

    Nothing else in an export changes a uuid: a number is the first one whose uuid is not taken.
    """

    def __init__(self, filter_words: int = FILTER_WORDS) -> None:
        self.taken = DigestFilter(filter_words)
        self.numbers: dict[str, int] = {}  # the latest ones, by the digest of the first equal

    def identify(
        self,
        attributes: Mapping[str, str],  # noqa: ARG002
        source: tuple[str, str],
        moments: tuple[str, str, str],
        metadata: dict[str, object] | None,
        printed: tuple[str, str],  # noqa: ARG002  # not part of this version
    ) -> str:
        start, end, created = moments
        name = f"{created}\x1f{start}\x1f{end}\x1f"
        if metadata:
            name += describe_metadata(metadata)
        return self.make_unique_uuid(source, name)

    def identify_electrocardiogram(
        self,
        kind: str,
        header: Mapping[str, str],
        start: str,
        count: int,  # noqa: ARG002  # not part of this version
    ) -> str:
        return self.make_unique_uuid((kind, header["device"]), start)

    def make_unique_uuid(self, source: tuple[str, str], name: str) -> str:
        """Make a uuid of a source and a name, and of a number if it has been made before."""
        digits = hash_name(source, name)
        if not self.taken.add(int(digits[:16], 16)):
            latest = self.numbers.get(digits, 0)
            if len(self.numbers) >= NUMBERS_MAX:
                self.numbers.clear()  # they are counted again
            for number in range(latest + 1, latest + TRIES_MAX):
                self.numbers[digits] = number
                numbered = hash_name(source, f"{name}{SEPARATOR}{number}")
                if self.taken.add(int(numbered[:16], 16)):
                    break
            digits = numbered
        return format_uuid(digits)


class DigestFilter:
    """Finds the digests that have occurred before, in constant memory (a blocked Bloom filter).

    A digest, of which 64 bits are used, sets up to six bits of one word. None is missed. With
    FILTER_WORDS, 9 of a million new ones are taken for others, and 8,600 of five million.
    """

    def __init__(self, words: int) -> None:
        self.words = array("Q", bytes(8 * words))
        self.mask = words - 1  # their number is a power of two

    def add(self, digest: int) -> bool:
        """Add a digest. Return True if it certainly is new."""
        index = digest & self.mask
        bits = (
            TWO_BITS[digest >> 52] | TWO_BITS[digest >> 40 & 4095] | TWO_BITS[digest >> 28 & 4095]
        )
        word = self.words[index]
        self.words[index] = word | bits
        return word & bits != bits


def hash_name(source: tuple[str, str], name: str) -> str:
    """Return the SHA-1 digest of a name in upper case."""
    digest = begin_hash(source)()
    digest.update(name.encode())
    return digest.hexdigest().upper()


@lru_cache(maxsize=20_000)
def begin_hash(source: tuple[str, str]) -> Callable[[], Hash]:
    """Return a function that copies the hash of a source, which is only computed once."""
    prefix = "".join(part + SEPARATOR for part in source)
    return hashlib.sha1(NAMESPACE_2 + prefix.encode(), usedforsecurity=False).copy


def describe_metadata(metadata: Mapping[str, object]) -> str:
    """Describe metadata in the same way for all units, orders and time zones."""
    return SEPARATOR.join(
        describe_entry(key, value)
        if not isinstance(value, str) or len(value) <= METADATA_CACHED
        else f"{key}={value}"
        for key, value in sorted(metadata.items())
        if not key.startswith(PRIVATE_KEY)
    )


@lru_cache(maxsize=4_096)
def describe_entry(key: str, value: object) -> str:
    if not isinstance(value, str):
        return f"{key}={value}"
    return f"{key}=" if NUMBER_WITH_UNIT.fullmatch(simplify(value)) else f"{key}={to_utc(value)}"


def make_uuid(*parts: str) -> str:
    """Make a uuid of version 5 (RFC 9562) in the first namespace."""
    name = NAMESPACE + SEPARATOR.join(parts).encode()
    return format_uuid(hashlib.sha1(name, usedforsecurity=False).hexdigest().upper())


def format_uuid(digits: str) -> str:
    """Format a digest in upper case, as HealthKit's uuids are. `uuid` is slower."""
    return (
        f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}"
        f"-{VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    )
