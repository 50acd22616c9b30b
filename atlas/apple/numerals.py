"""Reads numbers as phones print them: in CLDR's forms for any language.

CLDR has decimal points, commas and U+066B; groups of digits are parted by any of the other marks,
apostrophes or spaces, and U+00A0 and U+202F are such spaces. The digits of most scripts occur, and
invisible marks of direction around a minus. One mark with three digits after it, as in 1,234, has
two readings; only the context can tell which one is meant.
"""

import re
import unicodedata
from collections.abc import Iterable
from math import isfinite

from atlas.apple.samples import Number

DIGITS_MAX = 15  # a double keeps these exactly
DECIMAL_MARKS, GROUP_MARKS = ".,\u066b", ".,\u066c'\u2019 "
MARKS = "".join(dict.fromkeys(DECIMAL_MARKS + GROUP_MARKS))
NUMBER = re.compile(rf"[+-]?\d+(?:[{MARKS}]\d+)*", re.ASCII)
MINUSES = "\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d"
LENGTH_MAX = 40


def parse_number(text: str) -> Number | None:
    """Parse a finite number, else None. 60.0 becomes 60, as Swift writes it."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not isfinite(value) or "_" in text:  # Python allows underscores
        return None
    return int(value) if value.is_integer() and abs(value) < 10**DIGITS_MAX else value


def parse_any_number(text: str) -> Number | None:
    """Parse a number in any language. None if it is not a number, or has two readings."""
    value = parse_number(text)
    if value is not None:
        return value
    readings = list_readings(text)
    return next(iter(readings.values())) if len(readings) == 1 else None


def parse_numbers(texts: Iterable[str]) -> list[Number] | None:
    """Parse numbers of one file, in one language. None if any of them is not a number.

    Numbers with one reading show which mark is the decimal one. If none does, it is the only one
    that occurs: a file that parted groups of digits, but never a fraction, has not been seen.
    """
    readings = [list_readings(text) for text in texts]
    known = [next(iter(each)) for each in readings if len(each) == 1]
    marks = {mark for mark in known if mark}
    numbers = [choose_reading(each, marks) for each in readings]
    return None if None in numbers else [each for each in numbers if each is not None]


def choose_reading(readings: dict[str, Number], decimal_marks: set[str]) -> Number | None:
    if len(readings) < 2:
        return next(iter(readings.values()), None)
    mark = next(mark for mark in readings if mark)
    if not decimal_marks or decimal_marks == {mark}:
        return readings[mark]
    return None if mark in decimal_marks else readings[""]


def parse_quantity(text: str, least: Number, most: Number) -> Number | None:
    """Parse the only number in a text such as "511,422\N{NO-BREAK SPACE}Hertz".

    None if there is not exactly one, with exactly one reading from `least` to `most`.
    """
    found = NUMBER.findall(simplify(text)) if len(text) <= LENGTH_MAX else []
    readings = list_readings(found[0]) if len(found) == 1 else {}
    fitting = [value for value in readings.values() if least <= value <= most]
    return fitting[0] if len(fitting) == 1 else None


def is_number(text: str) -> bool:
    """Check for a number of any language and size."""
    return len(text) <= LENGTH_MAX and NUMBER.fullmatch(simplify(text).strip()) is not None


def list_readings(text: str) -> dict[str, Number]:
    """List the numbers that a text can mean, by decimal mark ("" without one)."""
    simple = simplify(text).strip() if len(text) <= LENGTH_MAX else ""
    if not NUMBER.fullmatch(simple):
        return {}
    *groups, last = re.split(f"[{MARKS}]", simple)
    marks = [character for character in simple if character in MARKS]
    readings: dict[str, Number | None] = {}
    if is_grouped([*groups, last], marks):
        readings[""] = parse_number("".join([*groups, last]))
    mark = marks.pop() if marks else ""
    if mark and mark in DECIMAL_MARKS and mark not in marks and is_grouped(groups, marks):
        readings[mark] = parse_number(f"{''.join(groups)}.{last}")
    return {mark: value for mark, value in readings.items() if value is not None}


def is_grouped(groups: list[str], marks: list[str]) -> bool:
    """Check that these are groups of an integer: of three digits, in India also of two."""
    first, *others = groups
    if not others:
        return True
    return (
        len(set(marks)) == 1
        and marks[0] in GROUP_MARKS
        and len(first.lstrip("+-")) <= 3
        and first.lstrip("+-") != "0"
        and all(len(group) in (2, 3) for group in others)
        and len(others[-1]) == 3
    )


def simplify(text: str) -> str:
    """Return the text with ASCII digits, minuses and spaces, and without invisible characters."""
    if text.isascii():
        return text
    return "".join(map(simplify_character, text))


def simplify_character(character: str) -> str:
    if character in MINUSES:
        return "-"
    if character.isspace():
        return " "
    if unicodedata.category(character) == "Cf":
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
