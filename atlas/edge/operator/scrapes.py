"""What Prometheus is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.messages import Depth
from atlas.edge.operator.guard import Guard
from atlas.edge.operator.lookout import Lookout


class Text(Protocol):
    """The metrics, in the format of their content type."""

    def __call__(
        self, depth: Depth | None, queues: Mapping[str, tuple[int, int]], *, is_draining: bool
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Scrapes:
    """GET /metrics."""

    lookout: Lookout
    text: Text
    content_type: str

    def routes(self, guard: Guard) -> list[Route]:
        return [guard.route("GET", "/metrics", self.scrape)]

    async def scrape(self, _request: Request) -> Response:
        seen = await self.lookout.look()
        text = self.text(seen.depth, seen.queues, is_draining=seen.is_draining)
        return Response(text, headers={"Content-Type": self.content_type})
