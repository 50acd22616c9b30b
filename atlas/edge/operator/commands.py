"""Reads the JSON body of an operator's command, within the limits of every other body."""

from functools import partial
from typing import TypeVar

from starlette.requests import Request

from atlas.core.messages import User
from atlas.core.traces import not_sampled
from atlas.edge.body_reader import BodyReader, MinimumRate, parse_json
from atlas.edge.context import read_context
from atlas.runtime import Quota

T = TypeVar("T")

BYTES_MAX = 64 * 1024  # more than any token
READER = BodyReader(Quota(64 * BYTES_MAX), BYTES_MAX, BYTES_MAX, MinimumRate(), 25.0)
OPERATOR = User("operator")


async def read_command(request: Request, kind: type[T]) -> T:
    """Raises UnsupportedMediaType, TooLarge, TooSlow, Rejected."""
    context = read_context(request.scope, "operator", not_sampled)
    with READER.reserve_json(OPERATOR) as reservation:
        parse = partial(parse_json, kind=kind)
        asked, _ = await READER.read_json(context, request.receive, reservation, parse)
        return asked
