"""The section of the tokens: their issuers, audiences and algorithms, and proofs of keys."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


def split_list(text: str) -> tuple[str, ...]:
    """Return the items of a text, which are separated by commas or spaces."""
    return tuple(text.replace(",", " ").split())


class Auth0Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The accepted tokens. Several issuers or audiences are separated by commas or spaces."""

    issuer: Annotated[str, Meta(description="full issuer URLs instead of the domain")] = ""
    domain: Annotated[str, Meta(description="the Auth0 tenant: atlas.eu.auth0.com")] = ""
    audience: Annotated[
        str, Meta(min_length=1, description="the audiences of which tokens must have one")
    ] = "https://api.atlas.ai"
    required_scope: Annotated[str, Meta(description="a scope that tokens must have")] = ""
    algorithms: Annotated[
        tuple[Literal["RS256", "PS256"], ...],
        Meta(min_length=1, description="algorithms that may sign tokens: RS256, PS256"),
    ] = ("RS256",)
    accept_agents: Annotated[
        bool, Meta(description="true: also tokens of agents that act for a user")
    ] = False
    dpop: Annotated[
        Literal["allowed", "required", "off"],
        Meta(description="tokens bound to a key: allowed, required, off"),
    ] = "allowed"
    dpop_algorithms: Annotated[
        tuple[Literal["ES256", "ES384", "ES512", "RS256", "PS256", "Ed25519"], ...],
        Meta(min_length=1, description="algorithms that may sign proofs"),
    ] = ("ES256",)
    dpop_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="seconds that a proof is good; at most 86400")
    ] = 300.0
    dpop_nonce: Annotated[bool, Meta(description="true: proofs need a nonce from Atlas")] = False

    @property
    def issuers(self) -> tuple[str, ...]:
        return split_list(self.issuer)

    @property
    def audiences(self) -> tuple[str, ...]:
        return split_list(self.audience)
