"""A record as the old service saw it: `JSON.parse` makes doubles of all numbers, and minus zero is
written "0". The last of equal keys wins there and here; the order of keys tells nothing.

ECMA-262, JSON.parse and JSON.stringify.
"""

import json
import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from atlas.core.errors import NOT_JSON
from atlas.core.records import DEPTH_MAX, LINE_BYTES_MAX

Scalar = str | float | bool | None  # no int: msgspec reads every number as a double
Flat = Scalar | list[Scalar] | dict[str, Scalar]
Shallow = Scalar | list[Flat] | dict[str, Flat]
MINUS_ZERO = re.compile(rb"-0\.0[],}]")
REPLACEMENT = "\ufffd"
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # a lone surrogate

_shallow = msgspec.json.Decoder(dict[str, Shallow]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class ParsedRecord(Struct, gc=False):
    """What stands in a line: the record, None if it is no object, and all of it in one spelling.

    `is_sound` is false for what Atlas makes no row of: too long, too deep, half a character.
    `is_replaced`: what was no UTF-8 may have been in it, or U+FFFD as it stands there.
    """

    record: Mapping[str, object] | None
    canonical: bytes
    is_sound: bool = True
    is_json: bool = True
    is_replaced: bool = False


def parse_record(text: str) -> ParsedRecord:
    """The line that stands in `raw_healthkit_record`."""
    if len(text) <= LINE_BYTES_MAX // 4:
        try:
            record = _shallow(text)
        except (*NOT_JSON, UnicodeEncodeError):
            return parse_fully(text)
        canonical = _encode(record)
        if MINUS_ZERO.search(canonical) is None and REPLACEMENT not in text:
            return ParsedRecord(record, canonical)
    return parse_fully(text)


def parse_fully(text: str) -> ParsedRecord:
    """What is long, nests, or is not JSON as Atlas knows it."""
    line = text.encode("utf-8", "surrogatepass")
    try:
        value = to_doubles(json.loads(text))
        canonical = encode_canonical(value)
    except RecursionError:
        return ParsedRecord({}, line, is_sound=False)  # an object or a list, hundreds deep
    except ValueError:
        return ParsedRecord(None, line, is_json=False)
    is_sound = (
        len(line) <= LINE_BYTES_MAX
        and not is_deep(value)
        and not LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False))
    )
    record = value if isinstance(value, dict) else None
    return ParsedRecord(record, canonical, is_sound, is_replaced=REPLACEMENT in text)


def to_doubles(value: object) -> object:
    """The same, with JavaScript's numbers. What is too large for one is written null."""
    if isinstance(value, dict):
        return {name: to_doubles(each) for name, each in value.items()}
    if isinstance(value, list):
        return [to_doubles(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return float(value) + 0.0  # minus zero becomes zero
    except OverflowError:
        return None


def is_deep(value: object) -> bool:
    """Deeper than a record may be."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH_MAX):
        lists = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for inside in lists for each in inside if isinstance(each, dict | list)]
    return bool(level)


def encode_canonical(value: object) -> bytes:
    """As JSON, keys sorted: equal for equal values, and for no others."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value, sort_keys=True).encode()


def is_truthy(value: object) -> bool:
    """What `||` stops at: any list and object, but neither zero nor an empty text."""
    return isinstance(value, dict | list) or bool(value)
