"""`python -m tests.support.future_build ARGUMENT...`: atlas, as a version with one more column."""

from atlas.outside.postgres import expansions

ADDED = "ALTER TABLE @.export ADD COLUMN colour text, ADD COLUMN weight integer DEFAULT 1"


def main() -> None:
    expansions.EXPANSIONS = (*expansions.EXPANSIONS, ADDED)  # before the version is counted
    from atlas.cli import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
