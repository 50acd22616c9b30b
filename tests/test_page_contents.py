"""The codes, routes, columns, settings and messages on the pages are those of the code."""

import re

import msgspec
import pytest

from atlas.core import errors, events
from atlas.core.rows import COLUMNS
from atlas.edge.openapi import build_document
from atlas.outside import log
from atlas.settings import NAMES, Settings
from tests.conftest import ServiceHarness
from tests.support.error_codes import errors_with_codes
from tests.support.pages import ROOT, cells_of, codes_in, section_of, text_of

ATLAS = ROOT / "atlas"
PROXIES = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
DEFAULTS_IN_WORDS = {
    "AUTH0_ISSUER",
    "FOUNDRY_OAUTH_TOKEN_URL",
    "ATLAS_JOURNAL_KEY",
    "ATLAS_WORKERS",
}


# the contract


def test_the_contract_has_every_code_and_no_other():
    rows = cells_of(section_of("atlas/edge/README.md", "Errors"))
    listed = [
        (int(status), code)
        for status, codes in rows
        for code in codes_in(codes)
        if re.fullmatch(r"[A-Z_]+", code) and not code.startswith("ATLAS_")
    ]
    assert sorted(listed) == sorted((kind.status, kind.code) for kind in errors_with_codes())


def test_the_contract_has_every_route_and_no_other():
    rows = cells_of(text_of("atlas/edge/README.md").partition("\n## ")[0])
    listed = {tuple(code.partition("?")[0].split(" ")) for row in rows for code in codes_in(row[0])}
    described = build_document("0")["paths"]
    methods = {"get", "post"}
    expected = {
        (method.upper(), path) for path, by in described.items() for method in methods & by.keys()
    }
    assert listed == expected | {("GET", "/openapi.json")}


@pytest.mark.parametrize("page", ["README.md", "atlas/edge/README.md"])
def test_nothing_is_to_be_sent_again_but_what_is_retryable(page):
    """A page names the 4xx codes that may be sent again, and says that no others may."""
    retryable = {kind.status for kind in errors_with_codes() if kind.retryable}
    if page == "README.md":
        (row,) = [row for row in cells_of(text_of(page)) if "Send the same request again" in row[1]]
        named = {int(code) for code in codes_in(row[0])} | (
            {500, 503} if "5xx" in row[0] else set()
        )
        (rejected,) = [row for row in cells_of(text_of(page)) if row[0] == "any other 4xx"]
        assert "cannot succeed" in rejected[1]
    else:
        (said,) = re.findall(r"(?s)4xx means that .*?except (.*?)\. Do not send", text_of(page))
        named = {int(each) for each in re.findall(r"\b4\d\d\b", said)} | {500, 503}
    assert named == retryable


def test_the_columns_are_listed_in_the_order_of_the_files():
    rows = cells_of(section_of("atlas/core/README.md", "The row"))
    assert [codes_in(column)[0] for column, _ in rows] == list(COLUMNS)


# settings


def settings_listed() -> dict[str, str]:
    rows = cells_of(section_of("config/README.md", "Settings"))
    return {
        name: default for cell, default, *_ in (r for r in rows if len(r) == 3)
        for name in codes_in(cell)
    }  # fmt: skip


def test_the_table_has_every_variable_and_no_other():
    assert settings_listed().keys() == NAMES.keys() | PROXIES


@pytest.mark.parametrize("name", sorted(NAMES.keys() - DEFAULTS_IN_WORDS))
def test_a_default_is_that_of_the_code(name):
    section, _, key = NAMES[name].partition(".")
    default = msgspec.to_builtins(Settings())[section][key]
    (said,) = codes_in(settings_listed()[name]) or [""]
    if isinstance(default, bool):
        assert said == str(default).lower()
    elif isinstance(default, int | float):
        assert float(said) == default
    elif isinstance(default, tuple | list):
        assert said == ",".join(default)
    else:
        assert said == (default or "")


def test_exit_codes_are_those_of_the_code():
    rows = cells_of(section_of("config/README.md", "Settings"))
    codes = dict(row for row in rows if len(row) == 2)
    assert "another process holds the journal" in codes[str(errors.JournalLocked.exit_code)]
    assert "setting" in codes[str(errors.ConfigurationError.exit_code)]
    assert "failure" in codes[str(errors.CommandError.exit_code)]


# operations


def test_every_message_on_a_page_is_one_of_the_log():
    files = sorted((ATLAS / "outside" / "log").glob("*.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    operations = text_of("config/operations.md").partition("\n## The log\n")[2]
    operations = operations.partition("\n## ")[0]  # with its subsections
    rows = cells_of(section_of("config/runbook.md", "Log messages that need a person"))
    messages = [code for code in codes_in(operations) if " " in code and code[0].isupper()]
    messages += [codes_in(row[0])[0] for row in rows]
    assert len(messages) > 15
    made = {
        log.choose_message(events.RequestRead("", "", 1, 1, is_batch))[1]
        for is_batch in (True, False)
    }
    assert not [each for each in messages if f'"{each}"' not in source and each not in made]


def test_the_errors_of_the_log_are_the_messages_that_need_a_person():
    section = section_of("config/runbook.md", "Log messages that need a person")
    need, _, need_not = section.partition("These need no action")
    listed, others = ({codes_in(row[0])[0] for row in cells_of(text)} for text in (need, need_not))
    assert listed == {message for level, message in log.MESSAGES.values() if level == "error"}
    assert {log.MESSAGES[each][1] for each in (events.ExportFailed, events.ClientStuck)} <= others


async def test_the_operator_routes_are_listed_all_and_no_other(tmp_path):
    rows = cells_of(section_of("config/operations.md", "The operator listener"))
    listed = {tuple(code.partition("?")[0].split(" ")) for row in rows for code in codes_in(row[0])}
    async with ServiceHarness(tmp_path / "journal").running() as flow:
        routes = [
            (method, re.sub(r":\w+}", "}", route.path))
            for route in flow.service.operator.routes
            for method in route.methods - {"HEAD"}
            if not re.search(r"\.(js|css|svg)$", route.path)  # sections of the page
        ]
    assert listed == set(routes)


def test_the_glossary_says_each_word_once():
    words = [word for word, _ in cells_of(section_of("atlas/README.md", "Glossary"))]
    each = [word for cell in words for word in cell.split(", ")]
    assert words == sorted(words)
    assert len(each) == len(set(each))


def test_the_packages_are_listed_all_and_no_other():
    listed = re.findall(r"(?m)^  (\w+)/ ", text_of("atlas/README.md"))
    assert sorted(listed) == sorted(each.parent.name for each in ATLAS.glob("*/__init__.py"))


def test_the_stages_are_listed_in_the_order_of_the_data():
    rows = cells_of(section_of("atlas/README.md", "The flow"))
    stages = sorted(each.stem for each in (ATLAS / "actors").glob("[a-z]*"))
    assert [codes_in(stage)[0] for stage, _ in rows] == stages
