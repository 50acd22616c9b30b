"""What Foundry says no with, and what to do about it."""

import re
from collections.abc import Mapping

from atlas.core.diagnosis import Amiss
from atlas.core.errors import FoundryError
from atlas.outside.foundry.calls import Answer, Failure

NAME = re.compile(r"[A-Za-z:]{1,80}|[a-z]+/[a-z.+-]{1,60}")  # of an error, or of a media type
SCOPE = re.compile(r"[a-z:-]{1,80}")
MAKE_EDITOR = (
    "In Foundry, give the service user of our client the role Editor on the project of the dataset"
)
DENIED = "PermissionDenied"  # so end the names of all errors that a role would mend
REFUSALS = {
    "DatasetNotFound": (
        "it does not know the dataset, or our client has no role on it",
        f"{MAKE_EDITOR}. Else: is FOUNDRY_DATASET_RID right?",
    ),
    "BranchNotFound": (
        "it does not know the branch (is FOUNDRY_BRANCH right?)",
        "Set FOUNDRY_BRANCH to a branch of the dataset.",
    ),
    "ApiUsageDenied": (
        "our client lacks a scope of the API",
        "In Foundry, let the application have api:datasets-read and api:datasets-write.",
    ),
    DENIED: ("our client may not write to the dataset: give it a role", f"{MAKE_EDITOR}."),
}


def expect(answer: Answer) -> Answer:
    """An answer of success. Raises FoundryError, with what to do where we know it."""
    status, name = answer.status, answer.error.error_name
    if status in {200, 204}:
        return answer
    known = REFUSALS.get(DENIED if name.endswith(DENIED) else name)
    if known is not None:
        why, to_do = known
        told = f"Foundry answers {status} {shown(name)}: {why}{missing_scope(answer.error)}."
        raise FoundryError(told, to_do=to_do)
    if status == 404 and not name:
        raise FoundryError(
            "Foundry does not know the address: is FOUNDRY_HOST right?",
            to_do="Set FOUNDRY_HOST to the host of the stack itself.",
        )
    raise FoundryError(f"Foundry answers {status}.")


def missing_scope(failure: Failure) -> str:
    scope = str(failure.parameters.get("missingScope", ""))
    return f" ({scope})" if SCOPE.fullmatch(scope) else ""


def no_token(status: int, headers: Mapping[str, str], client_id: str) -> Amiss:
    """The token endpoint gives none."""
    client = (("client", client_id),)
    if status in {400, 401, 403}:
        return Amiss(
            f"Foundry does not accept the client ({status}).",
            "Are FOUNDRY_CLIENT_ID and FOUNDRY_CLIENT_SECRET of the same application, and is its "
            "client credentials grant on? A secret is shown once: if in doubt, make a new one.",
            client,
        )
    kind = headers.get("Content-Type", "nothing").partition(";")[0]
    told = "what is no token" if status == 200 else str(status)
    return Amiss(
        f"The token endpoint answers {told} ({shown(kind)}).",
        "Is FOUNDRY_HOST right, or FOUNDRY_OAUTH_TOKEN_URL? Does a proxy answer in its place?",
        client,
    )


def shown(name: str) -> str:
    """A name that Foundry has given; never a text of anybody."""
    return name if NAME.fullmatch(name) else ""
