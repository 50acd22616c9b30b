"""`python -m atlas`, and the command `atlas`.

Worker processes import this file again; so it imports nothing before it is run.
"""


def main() -> None:
    from atlas.cli import main as run  # noqa: PLC0415 - see above

    run()


if __name__ == "__main__":
    main()
