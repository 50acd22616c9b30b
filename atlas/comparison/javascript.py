"""Parses a record as the old service did.

`JSON.parse` turns all numbers into doubles, and minus zero is written "0". The last of equal keys
wins, and the order of keys does not matter (ECMA-262, JSON.parse and JSON.stringify).
"""

import json
import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from atlas.core.errors import JSON_ERRORS
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
    """A parsed line: the record (None if it is not an object), and its canonical JSON.

    `is_sound` is false if Atlas rejects it: too long, too deep, or a lone surrogate. `is_replaced`:
    it contains U+FFFD, which may have replaced invalid UTF-8.
    """

    record: Mapping[str, object] | None
    canonical: bytes
    is_sound: bool = True
    is_json: bool = True
    is_replaced: bool = False


def parse_record(text: str) -> ParsedRecord:
    """Parse the text of `raw_healthkit_record`."""
    if len(text) <= LINE_BYTES_MAX // 4:
        try:
            record = _shallow(text)
        except (*JSON_ERRORS, UnicodeEncodeError):
            return parse_fully(text)
        canonical = _encode(record)
        if MINUS_ZERO.search(canonical) is None and REPLACEMENT not in text:
            return ParsedRecord(record, canonical)
    return parse_fully(text)


def parse_fully(text: str) -> ParsedRecord:
    """Parse text that is long, nested, or not strict JSON."""
    line = text.encode("utf-8", "surrogatepass")
    try:
        value = to_doubles(json.loads(text))
        canonical = encode_canonical(value)
    except RecursionError:
        return ParsedRecord({}, line, is_sound=False)  # hundreds of levels deep
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
    """Convert all numbers to doubles. Those that are too large become null."""
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
    """True if it is nested deeper than a record may be."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH_MAX):
        lists = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for inside in lists for each in inside if isinstance(each, dict | list)]
    return bool(level)


def encode_canonical(value: object) -> bytes:
    """Encode as JSON with sorted keys: equal for equal values only."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value, sort_keys=True).encode()


def is_truthy(value: object) -> bool:
    """Evaluate truth as `||` does: lists and objects are true, zero and empty text are not."""
    return isinstance(value, dict | list) or bool(value)
