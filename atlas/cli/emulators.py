"""Addresses and defaults of `atlas local`, for commands that use it if it is running."""

from pathlib import Path

HOST = "127.0.0.1"
PORT = 8080
STATE = Path("var/local")
JOURNAL = "journal.db"
CLIENT = ("local", "local-secret")
SUB = "auth0|local"
AUTH0, OPERATOR = f"http://{HOST}:8082", f"http://{HOST}:8083"
