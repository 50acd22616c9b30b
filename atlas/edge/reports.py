"""The route of the reports that phones send about their own synchronization."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Annotated

from msgspec import UNSET, Meta, Struct
from starlette.responses import Response
from starlette.types import Receive

from atlas.core.errors import Rejected
from atlas.core.identifiers import API_PREFIX
from atlas.core.messages import User
from atlas.core.phones import (
    CODE_CHARACTERS_MAX,
    DEVICE_CHARACTERS_MAX,
    MESSAGE_CHARACTERS_MAX,
    STATE_CHARACTERS_MAX,
    VERSION_CHARACTERS_MAX,
    PhoneReport,
    ReportedError,
    ReportEvent,
    SampleCounts,
    TimeZone,
)
from atlas.core.ports import Clock, PhoneBook
from atlas.core.sample_counts import EARLIEST_DAY
from atlas.edge.admission import RateLimiter
from atlas.edge.app import EdgeRoute
from atlas.edge.authentication import RequestAuthenticator
from atlas.edge.body_reader import BodyReader, parse_json
from atlas.edge.context import RequestContext

REPORT_BYTES_MAX = 64 * 1024
LATEST_DAY = date(2200, 1, 1)


class ReportErrorBody(Struct, frozen=True):
    """The error of a report as it is sent: NSError has numbers as codes."""

    code: str | int | float | None = None
    message: str | None = None

    def build_error(self) -> ReportedError:
        code = None if self.code is None else str(self.code)
        return ReportedError(
            cut(code, CODE_CHARACTERS_MAX), cut(self.message, MESSAGE_CHARACTERS_MAX)
        )


class ReportBody(Struct, frozen=True):
    """A report as it is sent. The user is that of the token: `user` and `sub` may only repeat it.

    Unknown fields are ignored, and not stored. Null is absent, as many encoders write it; a text
    that is too long is cut; and a `battery` outside 0..1 is unknown, such as the -1 of iOS.
    """

    event: ReportEvent
    at: Annotated[datetime, Meta(tz=True)]
    device: str | None = None
    counts: SampleCounts | None = None
    time_zone: TimeZone | None = None
    error: ReportErrorBody | None = None
    battery: float | None = None
    state: str | None = None
    app_version: str | None = None
    os_version: str | None = None
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
    counts = get_counts(body)
    tomorrow = body.at.date() + timedelta(days=1)  # in every time zone
    if any(each.day > tomorrow for each in counts):
        raise Rejected("A day in counts is later than the report itself.")
    if any(each.day < EARLIEST_DAY for each in counts):
        raise Rejected(f"A day in counts is before {EARLIEST_DAY.year}.")
    return build_report(body)


def build_report(body: ReportBody) -> PhoneReport:
    """Build the report that is stored, within the limits of its fields."""
    has_battery = body.battery is not None and 0 <= body.battery <= 1
    return PhoneReport(
        event=body.event,
        at=body.at,
        device=cut(body.device, DEVICE_CHARACTERS_MAX) or "unknown",
        counts=get_counts(body),
        time_zone=body.time_zone,
        error=UNSET if body.error is None else body.error.build_error(),
        battery=body.battery if has_battery else None,
        state=cut(body.state, STATE_CHARACTERS_MAX),
        app_version=cut(body.app_version, VERSION_CHARACTERS_MAX),
        os_version=cut(body.os_version, VERSION_CHARACTERS_MAX),
    )


def get_counts(body: ReportBody) -> SampleCounts:
    return () if body.counts is None else body.counts


def cut(text: str | None, characters_max: int) -> str:
    return "" if text is None else text[:characters_max]
