"""Phones as a table of 80 columns, as CSV, and in full for one user."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from atlas.core import identifiers
from atlas.core.phones import Phone, PhonePage, PhoneReport, ReportedError
from atlas.core.sample_counts import shorten_type

LINE = "{:<16} {:<10} {:>5} {:<10} {:>7} {:>9} {:>8} {:<6}"
HEADINGS = ("USER", "DEVICE", "LAST", "SAMPLE", "EXPORTS", "ROWS", "REJECTED", "STATE")
CSV_COLUMNS = (
    *("user", "device", "state", "last_export_at", "last_sample", "exports", "rows", "rejected"),
    *("source_version", "app_version", "os_version", "last_event", "last_event_at"),
)
DEVICE_WIDTH = 10
DETAIL = "  {:<14} {}"


def iterate_table(pages: Iterable[PhonePage], now: datetime) -> Iterator[str]:
    """Yield the heading, the phones of each page, and the totals."""
    yield f"{LINE.format(*HEADINGS).rstrip()}\n"
    for page in pages:
        lines = [LINE.format(*list_cells(phone, now)).rstrip() for phone in page.phones]
        yield "".join(f"{line}\n" for line in lines)
    yield f"{render_totals(page)}\n"


def list_cells(phone: Phone, now: datetime) -> tuple[str, ...]:
    return (
        phone.user,
        shorten_text(phone.device, DEVICE_WIDTH),
        "never" if phone.last_export_at is None else format_age(now, phone.last_export_at),
        phone.last_sample[:10],
        f"{phone.exports:,}",
        f"{phone.rows:,}",
        f"{phone.rejected_share:.1%}",
        phone.state,
    )


def render_totals(page: PhonePage) -> str:
    totals = page.totals
    more = "  (more: --limit)" if page.before is not None else ""
    phones = "1 phone" if totals.phones == 1 else f"{totals.phones:,} phones"
    return (
        f"{phones} in 30 days: {totals.active:,} active, {totals.quiet:,} quiet "
        f"for {page.quiet_days} days, {totals.stuck:,} stuck{more}"
    )


def iterate_details(pages: Iterable[PhonePage], now: datetime) -> Iterator[str]:
    phones = [phone for page in pages for phone in page.phones]
    details = ["\n".join(list_details(phone, now)) for phone in phones]
    yield "\n\n".join(details or ["The journal knows no phone of this user."]) + "\n"


def list_details(phone: Phone, now: datetime) -> Iterator[str]:
    yield f"{phone.user}  {clean_text(phone.device)}"
    yield DETAIL.format("state", phone.state)
    yield DETAIL.format("last export", describe_time(phone.last_export_at, now))
    yield DETAIL.format("in 7 days", f"{phone.exports:,} exports, {phone.rows:,} rows")
    yield DETAIL.format("rejected", f"{phone.rejected:,} lines, {phone.rejected_share:.1%}")
    versions = {
        "app": phone.app_version,
        "samples'": phone.source_version,
        "system": phone.os_version,
    }
    known = ", ".join(f"{name} {clean_text(each)}" for name, each in versions.items() if each)
    yield DETAIL.format("versions", known or "not known")
    yield from list_report(phone)
    for type, start in sorted(phone.samples.items(), key=lambda each: each[1], reverse=True):
        yield DETAIL.format(start[:19], clean_text(shorten_type(type)))


def list_report(phone: Phone) -> Iterator[str]:
    """Yield the lines of the phone's latest report, if there is one."""
    report = phone.report
    if not isinstance(report, PhoneReport):
        return
    facts = [report.event, identifiers.format_timestamp(report.at), clean_text(report.state)]
    if report.battery is not None:
        facts.append(f"battery {report.battery:.0%}")
    yield DETAIL.format("reported", ", ".join(fact for fact in facts if fact))
    if isinstance(report.error, ReportedError):
        error = f"{report.error.code} {report.error.message}".strip()
        yield DETAIL.format("error", clean_text(error))


def iterate_json(pages: Iterable[PhonePage]) -> Iterator[str]:
    """Yield a `PhonePage` with the phones of all pages as JSON, which may be 100 MB in all."""
    head, separator, rest = '{"phones":[', "", ""
    yield head
    for page in pages:
        if page.phones:
            yield separator + msgspec.json.encode(page.phones).decode()[1:-1]
            separator = ","
        rest = msgspec.json.encode(msgspec.structs.replace(page, phones=())).decode()
    yield f"{rest.removeprefix(head)}\n"


def iterate_csv(pages: Iterable[PhonePage]) -> Iterator[str]:
    yield f"{','.join(CSV_COLUMNS)}\n"
    for page in pages:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(list_csv_cells, page.phones))
        yield text.getvalue()


def list_csv_cells(phone: Phone) -> tuple[str | int, ...]:
    report = phone.report
    return (
        phone.user,
        guard_formula(phone.device),
        phone.state,
        format_time(phone.last_export_at),
        phone.last_sample,
        phone.exports,
        phone.rows,
        phone.rejected,
        guard_formula(phone.source_version),
        guard_formula(phone.app_version),
        guard_formula(phone.os_version),
        report.event if isinstance(report, PhoneReport) else "",
        format_time(phone.reported_at),
    )


def guard_formula(text: str) -> str:
    """Keep a spreadsheet from running text of a phone as a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def describe_time(at: datetime | None, now: datetime) -> str:
    return "never" if at is None else f"{format_time(at)}, {format_age(now, at)} ago"


def format_time(at: datetime | None) -> str:
    return "" if at is None else identifiers.format_timestamp(at)


def format_age(now: datetime, at: datetime) -> str:
    """Format the time since then, such as 5m, 12h or 3d."""
    minutes = max(0, int((now - at).total_seconds())) // 60
    if minutes < 60:
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"


def shorten_text(text: str, width: int) -> str:
    shown = clean_text(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def clean_text(text: str) -> str:
    """Replace what could control a terminal: the text comes from a phone."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
