"""The command line: one function a command, one file a kind of command.

`main.py` lists the commands. `services.py` holds those that run (with `standins.py` for what
`atlas local` adds), `phone.py` those that do what the app does, `importing.py` (with
`windows.py`) the one that sends what Apple exports, `exports.py` those that look into
the journal (by way of `owner.py`), `people.py` those about one person, `prove.py` the one that
breaks everything on purpose.
"""

from atlas.cli.main import main

__all__ = ["main"]
