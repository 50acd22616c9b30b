"""The command line: one function per command. `main.py` lists the commands.

serve.py            the service
local.py            the service with emulators of Foundry and Auth0: their addresses are in
                    emulators.py, the options of their behaviour in behaviour.py; local_folder.py
                    and local_ports.py keep a second one out, local_demo.py has the phones
misbehave.py        lets the emulators fail, with emulator_client.py
tokens.py           a token from the Auth0 emulator
health.py           the health of a running service
send.py             sends a file as the app would
import_command.py   sends Apple's Health export, with import_windows.py and progress_meter.py
flatten.py          converts records to rows
compare.py          compares the rows of both services
diagnose.py         checks the whole flow
top.py              shows a running service; render.py draws it
exports.py          exports in the journal; dead_letters.py decides on those set aside
journal.py          checks, moves and upgrades the whole journal; journal_file.py copies it
personal_data.py    the data of one person
operator_client.py  requests to the process that owns the journal
configuration.py    finds the settings
program.py          the words that start this program, for printed commands
"""

from atlas.cli.main import main

__all__ = ["main"]
