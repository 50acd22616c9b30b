"""The listing is the architecture: who may know whom, how large things are, where nets hang."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ATLAS = ROOT / "atlas"
FILES = sorted(ATLAS.rglob("*.py"))

# room: what it may import of Atlas, and of the world beside the standard library
ROOMS: dict[str, tuple[str, str]] = {
    "core": ("core", "msgspec pybase64"),
    "runtime": ("core", "anyio"),
    "computing": ("", "anyio"),
    "actors": ("core runtime", "anyio msgspec"),
    "edge": ("core runtime", "starlette anyio msgspec backports compression"),
    "outside/network": ("core", "aiohttp yarl"),  # why a call has failed is the same for all
    "outside/auth0": ("core outside/network", "aiohttp anyio joserfc msgspec pybase64 yarl"),
    "outside/foundry": ("core outside/network", "aiohttp anyio authlib msgspec yarl"),
    "outside/sqlite": ("core", "anyio cryptography msgspec backports compression"),
    "outside/public_endpoint": ("core outside/network", "aiohttp msgspec yarl"),
    "outside/log": ("core", "msgspec structlog"),
    "outside/metrics": ("core", "prometheus_client"),
    "outside/traces": ("core", "opentelemetry"),
    "outside/parquet": ("core", "msgspec pyarrow"),
    "local": ("", "aiohttp joserfc msgspec"),
    "settings": ("core", "msgspec"),
    # it asks ports only, so that it walks inside a running service, too
    "diagnose": ("core settings", "anyio msgspec"),
    "service": ("core runtime computing actors edge outside diagnose settings", "anyio starlette"),
    "apple": ("core", "msgspec"),
    "comparison": ("core", "msgspec"),
    "client": ("core", "aiohttp anyio msgspec pybase64"),
    "server": ("core runtime computing service settings", "anyio httptools msgspec starlette"),
    "cli": (
        "core settings service server local client apple comparison",
        "aiohttp anyio msgspec rich typer yarl",
    ),
}
WORDS_ONLY = {"asyncio", "logging", "os", "random", "socket", "sqlite3", "threading", "time"}
FILE_LINES_MAX, FUNCTION_LINES_MAX = 300, 60
NAMED_TUPLE = {"_fields", "_replace"}  # documented: the underscore keeps them apart from fields
NAMES_OF_NOTHING = {"utils", "util", "helpers", "common", "manager", "base", "misc"}


def room_of(file: Path) -> str:
    parts = file.relative_to(ATLAS).with_suffix("").parts
    return "/".join(parts[:2]) if parts[0] == "outside" and len(parts) > 1 else parts[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: say where it comes from"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_known_to(file: Path) -> set[str]:
    """Rooms of Atlas, and single adapters, that a file imports from."""
    found = set()
    for name in imports(file):
        first, *rest = name.split(".")
        if first == "atlas" and rest and rest[0] != "__version__":
            found.add("/".join(rest[:2]) if rest[0] == "outside" else rest[0])
    return found


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name_of(file: Path) -> str:
    return str(file.relative_to(ATLAS))


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)
inside = pytest.mark.parametrize(
    "file", [file for file in FILES if file.parent != ATLAS or file.stem != "__init__"], ids=name_of
)


def test_the_listing_is_the_rooms():
    found = {room_of(file) for file in FILES} - {"__init__", "__main__", "outside/__init__"}
    assert found == set(ROOMS)


@inside
def test_a_file_knows_only_the_rooms_that_its_own_may_know(file):
    room = room_of(file)
    if room in {"outside/__init__", "__main__"}:
        return
    allowed = set(ROOMS[room][0].split()) | {room}
    known = {each if each in allowed else each.split("/")[0] for each in rooms_known_to(file)}
    assert known <= allowed


@inside
def test_a_file_uses_only_the_packages_of_its_room(file):
    room = room_of(file)
    packages = {name.split(".")[0] for name in imports(file)} - sys.stdlib_module_names - {"atlas"}
    assert packages <= set(ROOMS.get(room, ("", ""))[1].split())


def test_actors_do_not_know_each_other():
    for file in (ATLAS / "actors").glob("*.py"):
        assert not {name for name in imports(file) if name.startswith("atlas.actors")}, file


def test_the_stages_stand_in_the_order_of_the_data():
    """Each is spawned by the wiring after the one that it sends to, so last to first."""
    stages = sorted(each.stem for each in (ATLAS / "actors").glob("[a-z]*"))
    wiring = (ATLAS / "service" / "flow.py").read_text(encoding="utf-8")
    serving = wiring[wiring.index("async def run_service") :]
    made = {stage: f"{stage.title()}(" for stage in stages} | {"upload": "build_uploader("}
    spawned = sorted(stages, key=lambda stage: serving.index(made[stage]), reverse=True)
    assert stages == sorted(stages)
    assert spawned == stages


@pytest.mark.parametrize("file", sorted((ATLAS / "core").rglob("*.py")), ids=name_of)
def test_the_words_and_rules_touch_no_clock_no_disk_and_no_log(file):
    assert not {name.split(".")[0] for name in imports(file)} & WORDS_ONLY
    assert ".now(" not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted((ATLAS / "apple").glob("*.py")), ids=name_of)
def test_the_importer_touches_no_clock_and_no_network(file):
    assert not {name.split(".")[0] for name in imports(file)} & WORDS_ONLY
    assert ".now(" not in file.read_text(encoding="utf-8")


@every_file
def test_only_the_command_line_reads_the_environment(file):
    text = file.read_text(encoding="utf-8")
    assert room_of(file) == "cli" or not {"os.environ", "getenv"} & set(re.findall(r"[\w.]+", text))


@every_file
def test_a_file_fits_a_few_screens_and_a_function_one(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX
    for function in functions(file):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_LINES_MAX, function.name


@every_file
def test_a_broad_net_hangs_only_in_the_runtime(file):
    nets = [
        node
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    ]
    assert not nets or room_of(file) == "runtime"


@every_file
def test_a_file_uses_public_names_only(file):
    assert set(private_names(file)) == set()


def private_names(file: Path) -> Iterator[str]:
    """Private names that a file imports, or reads from anything but itself and its own classes."""
    for name in imports(file):
        if any(is_private(part) for part in name.split(".")):
            yield name
    nodes = [node for part in (tree(file), *quoted_annotations(file)) for node in ast.walk(part)]
    own = {"self", "cls"} | {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node.value) not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr"}:
            of, name = map(ast.unparse, node.args[:2])
            if of not in own and is_private(name.strip("'")):
                yield ast.unparse(node)


def quoted_annotations(file: Path) -> Iterator[ast.expr]:
    for node in ast.walk(tree(file)):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.Constant) and isinstance(found.value, str):
                yield ast.parse(found.value, mode="eval").body


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


@every_file
def test_a_file_says_what_it_is_and_is_called_by_what_it_holds(file):
    assert ast.get_docstring(tree(file))
    assert file.stem not in NAMES_OF_NOTHING


@pytest.mark.parametrize(
    "name", sorted(each.stem for each in (ROOT / "tests/bench").glob("[a-z]*.py"))
)
def test_a_bench_knows_only_what_is_there(name):
    """No test runs a bench, so that one could break without a word."""
    assert import_module(f"tests.bench.{name}").__doc__


def test_half_of_the_functions_are_short():
    lengths = sorted(
        (each.end_lineno or 0) - each.lineno + 1 for f in FILES for each in functions(f)
    )
    assert lengths[len(lengths) // 2] <= 9


def test_the_top_level_is_what_the_owner_asked_for():
    ours = {"atlas", "tests", "config", "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"}
    ours |= {"justfile", "Containerfile", "SECURITY.md"}
    made = {"var", "dist", "build"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - made <= ours


def test_no_test_module_imports_another():
    """What several of them need stands in tests/support."""
    for file in (ROOT / "tests").rglob("*.py"):
        ours = [name for name in imports(file) if name.startswith("tests.")]
        assert not [name for name in ours if ".test_" in name.rpartition(".")[0]], file
