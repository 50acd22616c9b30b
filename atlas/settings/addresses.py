"""Checks and normalization of URLs and hosts."""

import re
from urllib.parse import urlsplit


def normalize_url(host: str) -> str:
    """Add https:// to a host without a scheme, and remove slashes at the end.

    The host becomes lower case, as Auth0 writes it in tokens, whose issuer is compared as text.
    """
    if host and "://" not in host:
        name, slash, path = host.partition("/")
        host = f"https://{name.lower()}{slash}{path}"
    return host.rstrip("/")


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
