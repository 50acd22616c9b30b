"""The route of the reports that phones send about their own synchronization."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

from starlette.responses import Response
from starlette.types import Receive

from atlas.core.errors import Rejected
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import User
from atlas.core.phones import PhoneReport
from atlas.core.ports import Clock, PhoneBook
from atlas.core.sample_counts import EARLIEST_DAY
from atlas.edge.admission import RateLimiter
from atlas.edge.app import EdgeRoute
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.body_reader import BodyReader, parse_json
from atlas.edge.context import RequestContext

REPORT_BYTES_MAX = 64 * 1024
LATEST_DAY = date(2200, 1, 1)


class ReportBody(PhoneReport, frozen=True):
    """A report as it is sent. The user is that of the token: `user` and `sub` may only repeat it.

    Unknown fields are ignored, and not stored.
    """

    user: str | None = None
    sub: str | None = None


@dataclass(frozen=True, slots=True)
class ReportRoute:
    """Stores reports. `bodies` limits their size, `rate_limiter` their number for each user."""

    authenticator: RequestAuthenticator
    bodies: BodyReader
    rate_limiter: RateLimiter
    phones: PhoneBook
    clock: Clock

    def build_routes(self) -> list[EdgeRoute]:
        protected = self.authenticator.protect_upload(self.post_report)
        return [EdgeRoute(f"{API_PREFIX}/reports", POST=protected)]

    async def post_report(self, context: RequestContext, user: User, receive: Receive) -> Response:
        """Answer 204 once the report is stored. Raises Rejected, RateLimited, BodyTooLarge."""
        self.rate_limiter.acquire(user.sub)
        with self.bodies.reserve_json(user) as reservation:
            parse = partial(parse_json, kind=ReportBody)
            body, _ = await self.bodies.read_json(context, receive, reservation, parse)
        await self.phones.store_report(user, validate(body, user), self.clock())
        return Response(status_code=204)


def validate(body: ReportBody, user: User) -> PhoneReport:
    """Return the report without the fields that are not stored. Raises Rejected."""
    if any(name not in {None, user.sub} for name in (body.user, body.sub)):
        raise Rejected("A report is about the user of its token: leave out user and sub.")
    if not EARLIEST_DAY < body.at.date() < LATEST_DAY:
        raise Rejected(f"at must be between {EARLIEST_DAY.year} and {LATEST_DAY.year}.")
    tomorrow = body.at.date() + timedelta(days=1)  # in every time zone
    if any(each.day > tomorrow for each in body.counts):
        raise Rejected("A day in counts is later than the report itself.")
    if any(each.day < EARLIEST_DAY for each in body.counts):
        raise Rejected(f"A day in counts is before {EARLIEST_DAY.year}.")
    fields = {name: getattr(body, name) for name in PhoneReport.__struct_fields__}
    return PhoneReport(**fields | {"device": body.device or "unknown"})
