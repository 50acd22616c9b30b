"""The state of an emulator: branches, clients, tokens, limits, faults, and recorded calls."""

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from atlas.local.foundry.behaviour import Behaviour, PathRefusal
from atlas.local.foundry.branches import BranchStore, FoundryApiError
from atlas.local.foundry.faults import Faults
from atlas.local.foundry.stream_state import EmulatedStream
from atlas.local.foundry.tables import Tables

DATASET = "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730"
REQUESTS_PER_MINUTE, CONCURRENT_REQUESTS_MAX = 10_000, 800
ERRORS_MAX = 20


class EmulatorOptions(Struct, forbid_unknown_fields=True):
    """Options that may change while the emulator runs, in addition to its Behaviour."""

    latency_seconds: float = 0.0
    has_limits: bool = False
    is_strict_about_types: bool = False
    is_role_revoked: bool = False
    is_reader: bool = False  # the client's role only permits reading
    withheld_scope: str = ""
    clock_ahead_seconds: float = 0.0
    token_seconds: float = 3600.0
    publish_bytes_max: int = 0  # a larger request to a stream gets 413; 0: no limit
    sql_seconds: float = 0.0  # the time that a query of SQL takes
    refusals: tuple[PathRefusal, ...] = ()


@dataclass(slots=True)
class RateWindow:
    """Foundry's rate limits for one user."""

    began: float = 0.0
    requests: int = 0
    at_once: int = 0

    def is_over(self, now: float) -> bool:
        if now - self.began >= 60:
            self.began, self.requests = now, 0
        self.requests += 1
        return self.requests > REQUESTS_PER_MINUTE or self.at_once > CONCURRENT_REQUESTS_MAX


class FoundryEmulator:
    """One Foundry stack. Its datasets are stored in a folder and survive restarts."""

    def __init__(
        self,
        state: Path,
        datasets: tuple[str, ...] = (DATASET,),
        branches: tuple[str, ...] = ("master",),
        client: tuple[str, str] = ("local", "local-secret"),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = state.resolve()
        self.branches = BranchStore(state, datasets, branches, clock)
        self.streams: dict[str, EmulatedStream] = {}
        self.tables = Tables(self.branches)
        self.client = client
        self.options = EmulatorOptions()
        self.faults = Faults()
        self.minute = RateWindow()
        self.log = CallRecord()
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}

    @property
    def behaviour(self) -> Behaviour:
        return self.branches.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self.branches.behaviour = behaviour

    def refuse(self, at: str, paths: Iterable[str]) -> None:
        """Raises FoundryApiError if one of these paths is to be refused at this step."""
        for each in self.options.refusals:
            for path in paths if each.at == at else ():
                if each.contains in path:
                    raise FoundryApiError(each.status, each.name, filePath=path)

    def issue_token(self, scopes: frozenset[str]) -> str:
        token = secrets.token_urlsafe(24)
        scopes -= {self.options.withheld_scope}
        self._tokens[token] = (time.monotonic() + self.options.token_seconds, scopes)
        return token

    def revoke_tokens(self) -> None:
        self._tokens.clear()

    def check_token(self, authorization: str, scope: str) -> None:
        """Raises FoundryApiError unless the token is valid and has this scope."""
        scheme, _, token = authorization.partition(" ")
        if not token or scheme.lower() != "bearer":
            raise FoundryApiError(401, "MissingCredentials")
        expires, scopes = self._tokens.get(token, (0.0, frozenset[str]()))
        if time.monotonic() >= expires:
            raise FoundryApiError(401, "Default:Unauthorized")
        if scope not in scopes:
            raise FoundryApiError(403, "ApiUsageDenied", missingScope=scope)


@dataclass(slots=True)
class CallRecord:
    """Calls by status, violations by the client, its last headers, and the last errors."""

    calls: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    last_headers: dict[str, str | None] = field(default_factory=dict)
    errors: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=ERRORS_MAX))
