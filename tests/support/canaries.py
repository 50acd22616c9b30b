"""Canaries: marked strings, one for each place of personal data or a secret, and their search.

A canary is random, so that it never occurs by chance, and named after its field, so that a leak
identifies the source. It is searched for verbatim and in common encodings.
"""

import base64
import random
import secrets
from collections.abc import Iterator, Mapping


class Canaries:
    """Canaries by field, created on first use. Every leak report includes the seed.

    All canaries share a prefix: a text without it is skipped quickly.
    """

    def __init__(self, seed: str = "") -> None:
        self.seed = seed or secrets.token_hex(4)
        self._chance = random.Random(self.seed)
        self._flock = f"{self._chance.getrandbits(48):012x}"
        self._numbers = str(self._chance.randrange(10**7, 9 * 10**7))
        self._ours: dict[str, str] = {}
        self._others: dict[str, str] = {}

    def __getitem__(self, field: str) -> str:
        """A text of letters and digits: no escaping changes it."""
        return self._ours.setdefault(field, f"{self._flock}{self._chance.getrandbits(48):012x}")

    def number(self, field: str) -> int:
        made = f"{self._numbers}{self._chance.randrange(10**6, 10**7)}"
        return int(self._ours.setdefault(field, made))

    def add(self, field: str, text: str) -> str:
        """Add a text made elsewhere, such as a token. It is searched for verbatim."""
        self._others[field] = text
        return text

    def texts(self) -> list[str]:
        return [*self._ours.values(), *self._others.values()]

    def fields(self, name: str) -> set[str]:
        """Return the fields with this prefix."""
        return {field for field in self._ours if field.startswith(name)}

    def find_in(self, places: Mapping[str, bytes], *but: str) -> list[str]:
        """Return the canaries found in each place, with their encoding, except for these fields."""
        flocks = [
            form for text in (self._flock, self._numbers) for _, form in encode_variants(text)
        ]
        found = []
        for place, text in places.items():
            forms = [(field, "as it is", other.encode()) for field, other in self._others.items()]
            if any(form in text for form in flocks):
                forms += [
                    (f, *way) for f, ours in self._ours.items() for way in encode_variants(ours)
                ]
            for field, how, form in forms:
                if form in text and not field.startswith(but or "\0"):
                    found.append(f"{field} in {place}, {how} (seed {self.seed})")
        return found


def encode_variants(text: str) -> Iterator[tuple[str, bytes]]:
    """Return the encodings of a text, each with its name."""
    plain = text.encode()
    yield "as it is", plain
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + plain)
        inner = whole[shift and 4 : len(whole) // 4 * 4 - 4]  # the surrounding bytes are unknown
        yield "in base64", inner
        if inner != url_safe(inner):
            yield "in base64url", url_safe(inner)
    for turned, name in ((plain.hex(), "in hex"), (plain.hex().upper(), "in HEX")):
        yield name, turned.encode()
        yield f"percent-encoded, {name}", escape_bytes(turned, "%")
        yield f"escaped, {name}", escape_bytes(turned, "\\u00")
        yield f"as Python writes bytes, {name}", escape_bytes(turned, "\\x")
    yield (
        "in UTF-16",
        text.encode("utf-16-le")[:-1],
    )  # big-endian too: the same, preceded by a NUL
    yield "backwards", plain[::-1]


def url_safe(inner: bytes) -> bytes:
    return inner.translate(bytes.maketrans(b"+/", b"-_"))


def escape_bytes(turned: str, sign: str) -> bytes:
    """Escape every byte."""
    return "".join(sign + turned[at : at + 2] for at in range(0, len(turned), 2)).encode()


def joined(*texts: bytes | str) -> bytes:
    return b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts)
