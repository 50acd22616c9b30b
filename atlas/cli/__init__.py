"""The command line: one function a command, one file a kind of command.

`main.py` lists the commands, and imports none of them before it is run. `serve.py` is the service;
`local.py` adds stand-ins (`standins.py` says where, `behaviour.py` how they behave), `tokens.py`
asks them for a token, `health.py` asks the service how it is. `phone.py` does what the app does,
`flatten.py` what becomes of that.
`compare.py` lays the rows of both services side by side, `diagnose.py` walks the flow, `top.py`
shows it; `configuration.py` finds the settings.
`importing.py` (with `windows.py`) sends what Apple exports, `exports.py` looks into the journal (by
way of `owner.py`), `people.py` is about one person.
"""

from atlas.cli.main import main

__all__ = ["main"]
