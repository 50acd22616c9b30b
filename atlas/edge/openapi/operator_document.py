"""The document of the operator listener, for those who write programs for it."""

from typing import Any

from atlas.edge.context import JSON
from atlas.edge.openapi.operator_routes import ROUTES, OperatorRoute
from atlas.edge.openapi.operator_texts import OPERATOR_TEXTS
from atlas.edge.openapi.public import LICENCE, VERSION
from atlas.edge.openapi.schemas import build_ref, build_schemas

Json = dict[str, Any]

ABOUT = (
    "The operator listener of one replica. It must not be public.\n\n"
    "If `ATLAS_OPERATOR_TOKEN` is set, every route needs it as a bearer token. The `Host` must be"
    " `localhost`, an IP address, or the name in `ATLAS_OPERATOR_LISTEN`. A request that is not"
    " valid HTTP/1.1 gets 400, 408 or 431 in the format of the public document."
)
TAGS = [
    {"name": "status", "description": "The state of the service."},
    {"name": "exports", "description": "The exports in the journal, of all users."},
    {"name": "journal", "description": "The file of the journal, for backups."},
    {"name": "phones", "description": "The phones, and what they report."},
    {"name": "personal data", "description": "The data of one person."},
    {"name": "diagnosis", "description": "Check everything that the service depends on."},
]
ERRORS = {
    400: "A parameter or the body is invalid.",
    401: "The operator token is missing or wrong.",
    403: "A page in a browser cannot make changes here, unless the listener has a token and the"
    " page is its own.",
    404: "No export has this id, or more than one id begins with it.",
    408: "The body arrived too slowly.",
    409: "The export is not set aside.",
    413: "The body is larger than 64 KiB.",
    415: "The body is not JSON, or has an unknown encoding.",
    421: "The `Host` is not a name of this listener.",
    500: "A bug in Atlas, or a damaged export.",
    503: "The journal or Foundry does not respond, or there are too many viewers.",
}
ALWAYS = 401, 421, 500, 503
HEADERS: Json = {
    "Atlas-Page-Can-Replay": {
        "description": "`yes` if pages of this listener can make changes, because it has a token.",
        "schema": {"type": "string", "enum": ["no", "yes"]},
        "example": "yes",
    },
    "Retry-After": {
        "description": "Seconds to wait before a retry; only if there are too many viewers.",
        "schema": {"type": "integer", "format": "int32"},
        "example": 10,
    },
    "WWW-Authenticate": {
        "description": "The challenge.",
        "schema": {"type": "string"},
        "example": "Bearer",
    },
}
HEADERS_BY_STATUS = {401: "WWW-Authenticate", 503: "Retry-After"}


def build_operator_document(version: str) -> Json:
    """Build the document of the operator listener."""
    routes = [route for routes in ROUTES.values() for route in routes]
    bodies = {route.body[0] for route in routes if route.body}
    replies = {route.reply for route in routes if not isinstance(route.reply, str)}
    schemas = build_schemas(bodies, replies, OPERATOR_TEXTS)
    schemas["OperatorError"] = {
        "type": "object",
        "description": "A request that failed.",
        "properties": {"error": {"type": "string", "description": "The reason, in English."}},
        "required": ["error"],
    }
    return {
        "openapi": VERSION,
        "info": {
            "title": "Atlas operator",
            "version": version,
            "description": ABOUT,
            "license": LICENCE,
        },
        "servers": [{"url": "/", "description": "The listener that has sent this document."}],
        "security": [{"operator": []}],
        "tags": TAGS,
        "paths": build_paths(),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {name_error(status): describe_error(status) for status in ERRORS},
            "headers": HEADERS,
            "securitySchemes": {
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`ATLAS_OPERATOR_TOKEN`, if it is set.",
                }
            },
        },
    }


def build_paths() -> Json:
    paths: Json = {}
    for tag, routes in ROUTES.items():
        for route in routes:
            method, path = route.route.split(" ")
            paths.setdefault(path, {})[method.lower()] = {"tags": [tag], **describe_route(route)}
    return paths


def describe_route(route: OperatorRoute) -> Json:
    result: Json = {"operationId": route.id, "summary": route.summary}
    if route.about:
        result["description"] = route.about
    if route.parameters:
        result["parameters"] = route.parameters
    if route.body:
        kind, example = route.body
        content = {JSON: {"schema": build_ref(kind.__name__), "example": example}}
        result["requestBody"] = {"required": True, "content": content}
    result["responses"] = {"200": describe_reply(route.reply)} | {
        str(status): {"$ref": f"#/components/responses/{name_error(status)}"}
        for status in sorted({*ALWAYS, *route.errors})
    }
    return result


def describe_reply(reply: type | str) -> Json:
    if isinstance(reply, str):
        content: Json = {reply: {"schema": {"type": "string"}}}
    else:
        content = {JSON: {"schema": build_ref(reply.__name__)}}
    headers = {"Atlas-Page-Can-Replay": {"$ref": "#/components/headers/Atlas-Page-Can-Replay"}}
    return {"description": "The result.", "headers": headers, "content": content}


def name_error(status: int) -> str:
    return f"Error{status}"


def describe_error(status: int) -> Json:
    response: Json = {
        "description": ERRORS[status],
        "content": {
            JSON: {"schema": build_ref("OperatorError"), "example": {"error": ERRORS[status]}}
        },
    }
    if name := HEADERS_BY_STATUS.get(status):
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"}}
    return response
