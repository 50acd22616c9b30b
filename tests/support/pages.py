"""Reads the pages: their links, anchors, tables and code."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
NOT_PAGES = {"var", "dist", "build"}
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in NOT_PAGES for part in page.relative_to(ROOT).parts)
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text_of(page: Path | str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """Return the page without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", text_of(page))


def links_of(page: Path) -> list[tuple[Path, str]]:
    """Yield the file and the anchor of each link to a page or file of the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
    parts = (link.partition("#") for link in found if not link.startswith("https://"))
    return [((page.parent / file).resolve() if file else page, at) for file, _, at in parts]


def anchors_of(page: Path) -> set[str]:
    return anchors_in(prose_of(page))


def anchors_in(prose: str) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", prose)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def section_of(page: str, heading: str) -> str:
    return re.split(r"(?m)^#+ ", text_of(page).partition(f" {heading}\n")[2])[0]


def cells_of(text: str) -> list[list[str]]:
    """Return the rows of all tables, without their headers."""
    rows = re.findall(r"(?m)^\| ?(.*?) ?\|$", re.sub(r"(?m)^\|.*\n\|[-|]+\|$", "", text))
    return [re.split(r" ?(?<!\\)\| ?", row) for row in rows]


def codes_in(text: str) -> list[str]:
    return [each.replace("\\|", "|") for each in re.findall(r"`([^`]+)`", text)]
