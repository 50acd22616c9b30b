"""Texts from outside that a database does not take."""


def make_storable(text: str) -> str:
    """Replace NUL, which PostgreSQL refuses, and lone surrogates, which are no UTF-8, by U+FFFD.

    No id, key or name has that character: such a text is not found, and it is no error.
    """
    if text.isascii() and "\0" not in text:
        return text
    return (
        text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )
