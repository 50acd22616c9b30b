"""What one stand-in knows besides its branches: clients, tokens, limits, faults, a record."""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from atlas.local.foundry.behaviour import Behaviour, Refusal
from atlas.local.foundry.branches import Branches, Refused
from atlas.local.foundry.faults import Faults

DATASET = "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
REQUESTS_A_MINUTE, REQUESTS_AT_ONCE = 10_000, 800
ERRORS_MAX = 20


class Switches(Struct, forbid_unknown_fields=True):
    """Settings of this stand-in that may change while it runs, beside its Behaviour."""

    latency_seconds: float = 0.0
    has_limits: bool = False
    is_strict_about_types: bool = False
    is_role_revoked: bool = False
    is_reader: bool = False  # its role lets it read, and no more
    withheld_scope: str = ""
    clock_ahead_seconds: float = 0.0
    token_seconds: float = 3600.0
    refusals: tuple[Refusal, ...] = ()


@dataclass(slots=True)
class Minute:
    """Foundry's limits of requests, for one user."""

    began: float = 0.0
    requests: int = 0
    at_once: int = 0

    def is_over(self, now: float) -> bool:
        if now - self.began >= 60:
            self.began, self.requests = now, 0
        self.requests += 1
        return self.requests > REQUESTS_A_MINUTE or self.at_once > REQUESTS_AT_ONCE


class Foundry:
    """One Foundry. Its state is a folder, and survives it."""

    def __init__(
        self,
        state: Path,
        datasets: tuple[str, ...] = (DATASET,),
        branches: tuple[str, ...] = ("master",),
        client: tuple[str, str] = ("local", "local-secret"),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.branches = Branches(state, datasets, branches, now)
        self.client = client
        self.switches = Switches()
        self.faults = Faults()
        self.minute = Minute()
        self.log = Record()
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}

    @property
    def behaviour(self) -> Behaviour:
        return self.branches.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self.branches.behaviour = behaviour

    def refuse(self, at: str, paths: Iterable[str]) -> None:
        """Raises Refused if one of these paths is to be refused at this moment."""
        for each in self.switches.refusals:
            for path in paths if each.at == at else ():
                if each.contains in path:
                    raise Refused(each.status, each.name, filePath=path)

    def token(self, scopes: frozenset[str]) -> str:
        token = secrets.token_urlsafe(24)
        scopes -= {self.switches.withheld_scope}
        self._tokens[token] = (time.monotonic() + self.switches.token_seconds, scopes)
        return token

    def revoke_tokens(self) -> None:
        self._tokens.clear()

    def check(self, authorization: str, scope: str) -> None:
        """Raises Refused unless a good token with this scope is sent."""
        scheme, _, token = authorization.partition(" ")
        if not token or scheme.lower() != "bearer":
            raise Refused(401, "MissingCredentials")
        expires, scopes = self._tokens.get(token, (0.0, frozenset[str]()))
        if time.monotonic() >= expires:
            raise Refused(401, "Default:Unauthorized")
        if scope not in scopes:
            raise Refused(403, "ApiUsageDenied", missingScope=scope)


@dataclass(slots=True)
class Record:
    """Calls by status, complaints about the client, its last headers, the last errors it got."""

    calls: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    last_headers: dict[str, str | None] = field(default_factory=dict)
    errors: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=ERRORS_MAX))
