"""The rules by which tokens, and the proofs of those that are bound to a key, are accepted."""

from dataclasses import dataclass
from typing import Literal

ProofMode = Literal["allowed", "required", "off"]


@dataclass(frozen=True, slots=True)
class ProofPolicy:
    """The rules for proofs of possession (DPoP, RFC 9449).

    With `nonce_keys`, a proof must have a nonce of ours, and `seconds` is the age of the nonce.
    """

    mode: ProofMode = "allowed"
    algorithms: tuple[str, ...] = ("ES256",)
    seconds: float = 300.0
    nonce_keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """The rules for tokens. `accepts_agents`: also of agents that act for a user."""

    issuers: tuple[str, ...]
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256",)
    accepts_agents: bool = False
    proofs: ProofPolicy = ProofPolicy()

    def __post_init__(self) -> None:
        if not all(self.audiences or ("",)):  # joserfc would accept every audience
            raise ValueError("no audience")
