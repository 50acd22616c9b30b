"""What Prometheus is told."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.core.picture import Sight
from atlas.edge.operator.guard import Guard
from atlas.edge.operator.lookout import Lookout


@dataclass(frozen=True, slots=True)
class Scrapes:
    """GET /metrics, which are a text of this content type."""

    lookout: Lookout
    text: Callable[[Sight], bytes]
    content_type: str

    def routes(self, guard: Guard) -> list[Route]:
        return [guard.route("GET", "/metrics", self.scrape)]

    async def scrape(self, _request: Request) -> Response:
        text = self.text(await self.lookout.look())
        return Response(text, headers={"Content-Type": self.content_type})
