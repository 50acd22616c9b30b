"""Marked strings, one for each place where personal data or a secret can be, and who has seen one.

A canary is random, so that it is nowhere by chance; each has the name of its field, so that a leak
says what has leaked. It is looked for as it is, and as what software makes of texts in passing.
"""

import base64
import random
import secrets
from collections.abc import Iterator, Mapping


class Canaries:
    """By their fields; asked for the first time, one is made. The seed is told with each leak.

    All of ours begin alike: a place without that beginning has none of them, and is looked at once.
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
        """One that somebody else has made, as a token is. It is looked for as it is."""
        self._others[field] = text
        return text

    def texts(self) -> list[str]:
        """All of them."""
        return [*self._ours.values(), *self._others.values()]

    def fields(self, name: str) -> set[str]:
        """Those that begin so."""
        return {field for field in self._ours if field.startswith(name)}

    def seen_in(self, places: Mapping[str, bytes], *but: str) -> list[str]:
        """Which of them stand where, and how they are written there; but for these fields."""
        flocks = [form for text in (self._flock, self._numbers) for _, form in written(text)]
        found = []
        for place, text in places.items():
            forms = [(field, "as it is", other.encode()) for field, other in self._others.items()]
            if any(form in text for form in flocks):
                forms += [(f, *way) for f, ours in self._ours.items() for way in written(ours)]
            for field, how, form in forms:
                if form in text and not field.startswith(but or "\0"):
                    found.append(f"{field} in {place}, {how} (seed {self.seed})")
        return found


def written(text: str) -> Iterator[tuple[str, bytes]]:
    """A text in the ways that it may be written, each with its name."""
    plain = text.encode()
    yield "as it is", plain
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + plain)
        inner = whole[shift and 4 : len(whole) // 4 * 4 - 4]  # what stands around it is not known
        yield "in base64", inner
        if inner != url_safe(inner):
            yield "in base64url", url_safe(inner)
    for turned, name in ((plain.hex(), "in hex"), (plain.hex().upper(), "in HEX")):
        yield name, turned.encode()
        yield f"percent-encoded, {name}", escaped(turned, "%")
        yield f"escaped, {name}", escaped(turned, "\\u00")
        yield f"as Python writes bytes, {name}", escaped(turned, "\\x")
    yield (
        "in UTF-16",
        text.encode("utf-16-le")[:-1],
    )  # and big-endian, which is this with a NUL first
    yield "backwards", plain[::-1]


def url_safe(inner: bytes) -> bytes:
    return inner.translate(bytes.maketrans(b"+/", b"-_"))


def escaped(turned: str, sign: str) -> bytes:
    """Every byte on its own."""
    return "".join(sign + turned[at : at + 2] for at in range(0, len(turned), 2)).encode()


def joined(*texts: bytes | str) -> bytes:
    return b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts)
