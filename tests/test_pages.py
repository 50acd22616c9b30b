"""The pages fit their readers: short, linked, and with commands that exist."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from atlas.cli.main import COMMANDS, build_app
from tests.bench.__main__ import END
from tests.support.pages import (
    PAGES,
    README,
    ROOT,
    anchors_of,
    cells_of,
    codes_in,
    links_of,
    name_of,
    prose_of,
    section_of,
    text_of,
)

SOURCES = sorted((ROOT / "atlas").rglob("*.py"))
OPERATOR_PAGE = ROOT / "atlas" / "edge" / "operator" / "page"

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# shape


def test_the_front_door_is_short():
    assert len(text_of(README).splitlines()) <= 150


@every_page
def test_a_page_is_read_in_one_sitting(page):
    assert len(text_of(page).splitlines()) <= 400


@every_page
def test_a_link_leads_somewhere(page):
    for file, anchor in links_of(page):
        assert file.is_relative_to(ROOT)
        assert file.exists(), f"{file} is linked, and is not there"
        assert not anchor or anchor in anchors_of(file), f"{name_of(file)}#{anchor}"


def test_every_page_can_be_reached_from_the_front_door():
    reached, ahead = set(), [README]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            ahead += [file for file, _ in links_of(page)]
    assert reached == set(PAGES)


def test_a_link_of_the_checks_themselves_is_found():
    assert len(links_of(README)) > 20
    assert "the-promise" in anchors_of(README)


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_no_message_refers_to_a_page_that_the_image_does_not_have(file):
    tree = ast.parse(text_of(file))
    texts = {node for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    if "cli" not in file.parts:  # there, docstrings are the output of --help
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
        texts -= {node.body[0].value for node in nodes if ast.get_docstring(node) is not None}
    said = [text.value for text in texts if isinstance(text.value, str)]
    assert not [text for text in said if "README" in text or ".md" in text.split()]


# commands


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that these words begin with, and the remaining words."""
    command: Any = get_command(build_app(words[:1]))
    while words and hasattr(command, "commands") and not words[0].startswith("--"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command = command.commands[words[0]]
        words = words[1:]
    return command, words


def commands_in(page: Path) -> list[str]:
    """Yield the Atlas commands on a page, from backticks and from shell lines."""
    lines = re.findall(r"(?m)^(?:\S*/|podman exec atlas )?(atlas [a-z].*)$", text_of(page))
    codes = [each for each in codes_in(prose_of(page)) if re.match(r"atlas [a-z]", each)]
    blocks = "\n".join(re.findall(r"(?ms)^```sh$(.*?)^```$", text_of(page)))
    return codes + [line for line in lines if line in blocks]


@pytest.mark.parametrize(
    "words", sorted({each for page in PAGES for each in commands_in(page)}), ids=str
)
def test_a_command_on_a_page_is_one_of_atlas_with_these_options(words):
    command, rest = command_of(words.split()[1:])
    known = {"--help"}.union(*((*each.opts, *each.secondary_opts) for each in command.params))
    options = {each for each in rest if re.match(r"--\w", each)}
    assert options <= known


def test_a_command_that_the_operator_page_shows_is_one_of_atlas():
    source = "".join(text_of(OPERATOR_PAGE / name) for name in ("page.html", "exports.js"))
    shown = re.findall(r"[`\">]atlas ([a-z ]+[a-z])", source)
    assert {"send", "top", "exports list", "exports replay"} <= set(shown)
    for words in shown:
        assert command_of(words.split())[1] == []


def test_commands_are_found_where_they_are():
    found = {each for page in PAGES for each in commands_in(page)}
    assert {"atlas serve", "atlas exports replay --all", "atlas diagnose"} <= found
    assert "atlas import export.zip --dry-run" in found
    with pytest.raises(AssertionError):
        command_of(["nothing"])


def list_below(name, command):
    """Return the subcommands, and "" for a command that does something without one."""
    below = list(getattr(command, "commands", []))
    return ["", *below] if not below or name == "phones" else below


def test_the_page_of_the_command_line_has_every_command_and_no_other():
    rows = cells_of(text_of("atlas/cli/README.md"))
    listed = [re.sub(r"( \[?[A-Z].*| --.*)", "", codes_in(cell)[0]) for cell, *_ in rows]
    groups = {name: command_of([name])[0] for name, *_ in COMMANDS}
    expected = {
        f"atlas {name} {below}" if below else f"atlas {name}"
        for name, command in groups.items()
        for below in list_below(name, command)
    }
    assert sorted(listed) == sorted(expected)


def test_the_page_of_the_tests_has_every_verb_of_the_workshop_and_no_other():
    recipes = re.sub(r"(?m)^\[private\]\n.*$", "", text_of("justfile"))
    verbs = set(re.findall(r"(?m)^([a-z][\w-]*)(?: [^:=\n]*)?:(?!=)", recipes))
    table = section_of("tests/README.md", "Commands")
    listed = set(re.findall(r"`just ([\w-]+)", table))
    assert listed == verbs


@every_page
def test_a_verb_on_a_page_is_one_of_the_workshop(page):
    named = {code.split()[1] for code in codes_in(prose_of(page)) if code.startswith("just ")}
    assert named <= set(re.findall(r"(?m)^([a-z][\w-]*)", text_of("justfile")))


@pytest.mark.parametrize(("marker", "end"), [("run", "/atlas local"), ("test", "/just test")])
def test_a_command_of_the_front_door_sets_everything_up(marker, end):
    (command,) = re.findall(rf"(?s)\n<!-- {marker} -->\n```sh\n(.+?)\n```\n", text_of(README))
    # pip says that this Python is too old only if it installs Atlas before anything else
    first = r"python3 -m venv( --clear)? \.venv && \.venv/bin/pip install -q --no-deps "
    assert re.match(first, command)
    assert command.endswith(end)
    for file in re.findall(r"-r (\S+)", command):
        assert (ROOT / file).exists()


def test_the_tables_that_a_bench_writes_have_their_place():
    commands = re.findall(r"`just bench --into (\S+) ([\w ]+)`", text_of("tests/bench/README.md"))
    assert commands
    for page, name in ((page, name) for page, names in commands for name in names.split()):
        assert (ROOT / "tests/bench" / f"{name}.py").exists()
        rest = text_of(page).partition(f"<!-- bench {name} -->\n")[2]
        assert END in rest.partition("<!-- bench ")[0]
