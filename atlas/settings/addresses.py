"""What is an address."""

import re
from urllib.parse import urlsplit


def normalize_url(host: str) -> str:
    """A host is meant as https; whoever wants another scheme says so."""
    return (host if not host or "://" in host else f"https://{host}").rstrip("/")


def is_url(text: str) -> bool:
    try:
        parsed = urlsplit(text)
        is_one = parsed.scheme in {"http", "https"} and parsed.port != 0
        host = re.fullmatch(r"[a-z0-9._:%-]+", parsed.hostname or "")  # no quotes of an env file
        return is_one and host is not None and re.fullmatch(r"[!-~]+", text) is not None
    except ValueError:  # what is no port, or no address in brackets
        return False


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
