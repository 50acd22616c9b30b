"""Normalizes dates of phones whose settings leak into Apple's fixed format.

Apple's format is 2020-04-10 15:38:56 +0200. On a phone with a 12-hour clock, another calendar or
other digits, some versions of iOS write 2020-04-10 3:38:56 PM +0200 (with U+202F, in any language),
2563-04-10 15:38:56 +0200 (Buddhist years) or the digits of another script.
"""

import re

from atlas.apple.numerals import simplify

# The halves of a day in CLDR for the languages of iOS, without points and spaces. Forms of one
# letter are left out, because what is the morning in one language is the afternoon in another.
BEFORE_NOON = {"am", "ap", "damanhã", "de", "dop", "dopoldne", "fm", "manhã", "pg", "sa", "vorm"}
BEFORE_NOON |= {"öö", "πμ", "дп", "ص", "صباحًا", "قظ", "قبلازظهر", "לפנה״צ", "पूर्वाह्न", "ก่อนเที่ยง"}
BEFORE_NOON |= {"priešpiet", "上午", "午前", "오전"}
AFTER_NOON = {"pm", "ip", "datarde", "du", "odp", "pop", "popoldne", "em", "tarde", "ptg", "ch"}
AFTER_NOON |= {
    "nachm",
    "ös",
    "μμ",
    "пп",
    "م",
    "مساءً",
    "بظ",
    "بعدازظهر",
    "אחה״צ",
    "अपराह्न",
    "หลังเที่ยง",
}
AFTER_NOON |= {"popiet", "下午", "午後", "오후"}
# Eras and the year before their first one. A year without an era is Gregorian or, if it is too
# late for that, Buddhist. Others are not guessed: in Japan, the year 2 was 2020, 1990 and 1927.
ERAS = {"r": 2018, "reiwa": 2018, "令和": 2018, "h": 1988, "heisei": 1988, "平成": 1988}
ERAS |= {"s": 1925, "showa": 1925, "昭和": 1925, "be": -543, "พศ": -543, "佛曆": -543, "佛历": -543}
ERAS |= {"ad": 0, "ce": 0, "คศ": 0, "西暦": 0, "民國": 1911, "民国": 1911, "minguo": 1911}
BUDDHIST_YEARS, BUDDHIST_OFFSET = (2443, 2742), 543
FIRST_YEAR, LAST_YEAR = 1900, 2199  # of samples
LENGTH_MAX = 60

DATE = re.compile(
    r"(?P<era>[^\d+-]*)(?P<year>\d{1,4}) ?[-/.年] ?(?P<month>\d\d?) ?[-/.月] ?(?P<day>\d\d?)"
    r"日?,?[ T]"
    r"(?P<before>[^\d+:-]*)(?P<hour>\d\d?)(?P<minutes>:\d\d:\d\d(?:\.\d+)?) ?"
    r"(?P<after>[^\d+:-]*?) ?(?:GMT|UTC)?(?P<offset>[+-]\d\d:?\d\d|Z)",
    re.ASCII,
)


def normalize_date(text: str) -> str:
    """Return a date in Apple's format; "" if the text is not a date, or an ambiguous one."""
    date = DATE.fullmatch(simplify(text).strip()) if len(text) <= LENGTH_MAX else None
    if date is None:
        return ""
    year = find_gregorian_year(int(date["year"]), date["era"])
    hour = find_hour(date["hour"], date["before"] + date["after"])
    if year is None or hour is None:
        return ""
    month, day = date["month"].zfill(2), date["day"].zfill(2)
    return f"{year}-{month}-{day} {hour:02}{date['minutes']} {date['offset']}"


def find_gregorian_year(year: int, era: str) -> int | None:
    name = strip_word(era)
    if name:
        gregorian = year + ERAS[name] if name in ERAS else None
    elif BUDDHIST_YEARS[0] <= year <= BUDDHIST_YEARS[1]:
        gregorian = year - BUDDHIST_OFFSET
    else:
        gregorian = year
    return gregorian if gregorian and FIRST_YEAR <= gregorian <= LAST_YEAR else None


def find_hour(digits: str, words: str) -> int | None:
    """Return the hour from 0 to 23. Without a word for the half of the day it needs two digits."""
    half, hour = strip_word(words), int(digits)
    if not half:
        return hour if len(digits) == 2 else None
    if half in AFTER_NOON:
        return hour if hour > 12 else hour % 12 + 12
    return hour % 12 if half in BEFORE_NOON and hour <= 12 else None


def strip_word(text: str) -> str:
    """Return a word without its points and spaces, in lower case."""
    return "".join(text.casefold().replace(".", "").split())
