"""Hides secrets wherever settings are shown."""

import re
from typing import Any

from atlas.settings.variables import NAMES, SECRET_FILES

HIDDEN = "***"
LOGIN = re.compile(r"(?s)(\w+://)([^:@]*)(:.*)?@")  # greedy: a password may contain any character
PARAMETER = re.compile(r"(?i)((?:pass|token|secret|key)\w*=)[^&]*")  # ?sslpassword=...
SECRETS = {NAMES[name] for name in SECRET_FILES.values()} - {"journal.url"}


def hide(path: str, value: Any) -> Any:
    """Replace a secret, and the passwords within a URL, by HIDDEN."""
    if path in SECRETS:
        return [HIDDEN] * len(value) if isinstance(value, list | tuple) else value and HIDDEN
    if isinstance(value, str) and "://" in value:
        return PARAMETER.sub(rf"\1{HIDDEN}", LOGIN.sub(hide_login, value))
    return value


def hide_login(match: re.Match[str]) -> str:
    """Hide the password of a database; of an HTTP URL also the user, which may be a token."""
    scheme, user, password = match.groups("")
    if scheme.startswith("http"):
        return f"{scheme}{HIDDEN}@"
    return f"{scheme}{user}:{HIDDEN}@" if password else match[0]
