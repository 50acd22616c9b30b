"""The types of values in the configuration, and the patterns of texts."""

from typing import Annotated

from msgspec import Meta

MIB = 1024 * 1024
RID = r"^ri\.[a-z][a-z0-9-]*\.([a-z0-9][a-z0-9\-]*)?\.[a-z][a-z0-9-]*\.[a-zA-Z0-9._-]+$"
KEY = r"^[A-Za-z0-9+/]{43}=$"  # 32 bytes in base64

Port = Annotated[int, Meta(ge=0, le=65535)]
PositiveFloat = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]
NonEmpty = Annotated[str, Meta(min_length=1)]


class Secret(str):
    """Text that `repr` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)"
