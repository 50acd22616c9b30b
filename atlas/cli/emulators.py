"""Where the stand-ins of `atlas local` are, for commands that may find it running."""

from pathlib import Path

HOST = "127.0.0.1"
STATE = Path("var/local")
JOURNAL = "journal.db"
CLIENT = ("local", "local-secret")
SUB = "auth0|local"
AUTH0, OPERATOR = f"http://{HOST}:8082", f"http://{HOST}:8083"
