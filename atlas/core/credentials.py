"""The credentials of a request: its access token, and the proof of the key of a bound token."""

from msgspec import Struct


class Proof(Struct, frozen=True):
    """A proof that the sender has the key of its token (DPoP), and the request that it must be for.

    `text` is "" unless there was exactly one. `url` is //host/path if Atlas does not know the
    scheme that the sender has used.
    """

    text: str
    method: str
    url: str


class RequestCredentials(Struct, frozen=True):
    """The access token of a request, and its proof if it was sent with the scheme DPoP."""

    token: str
    proof: Proof | None = None
