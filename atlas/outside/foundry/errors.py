"""Classification of the errors in Foundry's answers, with a remedy for the operator."""

import re
from typing import TypeVar

from yarl import URL

from atlas.core.errors import RETRY_LATER, FoundryError
from atlas.outside.foundry.responses import ApiResponse, ErrorBody, match_or_empty

E = TypeVar("E", bound=FoundryError)

SCOPE = re.compile(r"[a-z:-]{1,80}")
HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
# Errors of the setup or of access, with any status.
ACCESS_ERRORS = re.compile(
    r".*(PermissionDenied|Unauthorized|UsageDenied|Credentials|NotAuthorized)"
)
TARGET_ERRORS = re.compile(
    r"(Dataset|Branch)[A-Za-z]*NotFound|Invalid(Dataset(Rid)?|Branch(Name|Id)?)"
)
TRANSACTION_ERRORS = re.compile(r".*Transaction.*")
MAKE_EDITOR = (
    "In Foundry, give the service user of our client the role Editor on the project of the dataset"
)
ACCESS_DENIED_ERROR = "PermissionDenied"  # suffix of all errors that a role on the project fixes
KNOWN_ERRORS = {
    "DatasetNotFound": (
        "it does not know the dataset, or our client has no role on it",
        f"{MAKE_EDITOR}. Otherwise check FOUNDRY_DATASET_RID.",
    ),
    "BranchNotFound": (
        "it does not know the branch (is FOUNDRY_BRANCH right?)",
        "Set FOUNDRY_BRANCH to a branch of the dataset.",
    ),
    "ApiUsageDenied": (
        "our client lacks a scope of the API",
        "In Foundry, grant the application the scopes api:datasets-read and api:datasets-write.",
    ),
    ACCESS_DENIED_ERROR: (
        "our client may not write to the dataset: give it a role",
        f"{MAKE_EDITOR}.",
    ),
}


def raise_for_status(response: ApiResponse) -> ApiResponse:
    """Return the response if it is a success. Raises FoundryError otherwise."""
    if response.is_success:
        return response
    raise build_error(response)


def build_error(response: ApiResponse) -> FoundryError:
    """Return the error for a failure that is not about the content of the call."""
    name = response.error.base_name
    known = KNOWN_ERRORS.get(ACCESS_DENIED_ERROR if name.endswith(ACCESS_DENIED_ERROR) else name)
    if known is not None:
        reason, remedy = known
        reason += read_missing_scope(response.error)
    elif response.status == 404 and not response.error.is_named:
        reason = "it does not know the address (is FOUNDRY_HOST right?)"
        remedy = "Set FOUNDRY_HOST to the host of the Foundry stack itself."
    elif response.status == 403:
        reason, remedy = "our client lacks a role or a scope", f"{MAKE_EDITOR}."
    elif response.status == 407:
        reason = "the proxy requires a login"
        remedy = "Add the login to HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT"
    else:
        reason, remedy = "", RETRY_LATER
    return build_typed_error(FoundryError, response, reason, remedy)


def build_optional_error(response: ApiResponse, feature: str) -> FoundryError:
    """Return the error of an endpoint that a stack may lack, or that a proxy may not let through.

    Other calls reach Foundry, so FOUNDRY_HOST is not to blame.
    """
    if response.status != 404 or response.error.is_named:
        return build_error(response)
    reason = f"the stack does not offer {feature} to our client"
    return build_typed_error(FoundryError, response, reason, "Ask the administrator of the stack.")


def build_page_error(response: ApiResponse) -> FoundryError:
    return FoundryError(
        f"A page answers instead of Foundry ({response.status}).",
        remedy="Let this machine reach Foundry directly: a proxy or a login page is in between.",
    )


def build_typed_error(
    kind: type[E], response: ApiResponse, reason: str = "", remedy: str = RETRY_LATER
) -> E:
    """Return an error of this class that shows the status, the error name and the instance id."""
    error = response.error
    return kind(
        describe_answer(response.status, error, reason),
        remedy=remedy,
        error_name=error.name,
        instance_id=error.instance_id,
    )


def describe_answer(status: int, error: ErrorBody, reason: str = "") -> str:
    """Return a sentence about an answer that quotes only the strictly parsed parts of it."""
    name = f" {error.name}" if error.name else ""
    detail = f": {reason}" if reason else ""
    instance = f" (errorInstanceId {error.instance_id})" if error.instance_id else ""
    return f"Foundry answers {status}{name}{detail}{instance}."


def is_about_setup(response: ApiResponse) -> bool:
    """True if a 4xx is about our access, the host, the dataset or the branch."""
    name = response.error.base_name
    if response.status in {401, 403, 407} or (
        response.status == 404 and not response.error.is_named
    ):
        return True
    return bool(ACCESS_ERRORS.fullmatch(name) or TARGET_ERRORS.fullmatch(name))


def is_about_transaction(response: ApiResponse) -> bool:
    """True if a 4xx is about the transaction or its type."""
    return bool(TRANSACTION_ERRORS.fullmatch(response.error.base_name))


def build_redirect_error(setting: str, status: int, location: str) -> FoundryError:
    """Return the error for a redirect. Atlas follows none, so as not to send a secret elsewhere."""
    host = parse_redirect_host(location)
    target = f" to {host}" if host else ""
    return FoundryError(
        f"{setting} redirects ({status}){target}, which Atlas does not follow.",
        remedy=f"Set {setting} to the address of the Foundry stack itself. If it is, a proxy or a "
        "login page answers instead: let this machine reach Foundry directly.",
    )


def parse_redirect_host(location: str) -> str:
    """Return the host of a Location if it is a plain host name, else an empty string."""
    try:
        return match_or_empty(HOST_NAME, URL(location).host)
    except ValueError:
        return ""


def read_missing_scope(error: ErrorBody) -> str:
    scope = match_or_empty(SCOPE, error.parameters.get("missingScope"))
    return f" ({scope})" if scope else ""
