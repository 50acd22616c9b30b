"""The tables and the diagnostic steps are those that the pages name."""

import re
from pathlib import Path

from atlas.diagnose import NAMES
from tests.support.pages import cells_of, codes_in, section_of, text_of

ATLAS = Path(__file__).parent.parent / "atlas"
DIAGNOSIS = (ATLAS / "diagnose" / "README.md").read_text(encoding="utf-8")


def test_the_page_of_postgresql_has_every_table_and_no_other():
    files = ("schema.py", "expansions.py")
    schema = "".join(text_of(f"atlas/outside/postgres/{file}") for file in files)
    created = re.findall(r"CREATE (?:UNLOGGED )?TABLE @\.(\w+)", schema)
    rows = cells_of(section_of("atlas/outside/postgres/README.md", "Tables"))

    assert sorted(codes_in(name)[0] for name, _ in rows) == sorted(created)


def test_the_steps_of_a_diagnosis_are_those_that_it_walks():
    found = re.findall(r"(?m)^\| (\d+) \| ([a-z ]+) \| (\d+) \|", DIAGNOSIS)

    assert [(int(number), name, int(code)) for number, name, code in found] == [
        (number, name, 10 + number) for number, name in NAMES.items()
    ]
