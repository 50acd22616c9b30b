"""Checks and normalization of URLs and hosts."""

import re
from urllib.parse import urlsplit


def normalize_url(host: str) -> str:
    """Add https:// to a host without a scheme, and remove slashes at the end."""
    return (host if not host or "://" in host else f"https://{host}").rstrip("/")


def is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        is_http = url.scheme in {"http", "https"} and url.port != 0
        host = re.fullmatch(r"[a-z0-9._:%-]+", url.hostname or "")  # no quotes of an env file
        return is_http and host is not None and re.fullmatch(r"[!-~]+", text) is not None
    except ValueError:  # invalid port, or invalid address in brackets
        return False


def is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
