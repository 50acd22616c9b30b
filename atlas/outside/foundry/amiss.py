"""What Foundry says no with, and what to do about it."""

import re
from collections.abc import Mapping

from atlas.core.diagnosis import Amiss
from atlas.outside.foundry.calls import Answer

NAME = re.compile(r"[A-Za-z:]{1,80}")
SCOPE = re.compile(r"[a-z:-]{1,80}")
MAKE_EDITOR = (
    "In Foundry, give the service user of this client the role Editor on the project of the dataset"
)


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


def refused(answer: Answer, client_id: str) -> Amiss:
    """An answer that is no success."""
    name, status = answer.error.error_name, answer.status
    seen = (("answer", f"{status} {shown(name)}".rstrip()), ("client", client_id))
    if name == "ApiUsageDenied":
        scope = str(answer.error.parameters.get("missingScope", ""))
        told = scope if SCOPE.fullmatch(scope) else "that it does not name"
        return Amiss(
            f"Our token lacks a scope: {told}.",
            "In Foundry, let the application have api:datasets-read and api:datasets-write.",
            seen,
        )
    if name == "DatasetNotFound":
        return Amiss(
            "Foundry does not know the dataset; usually our client has no role on it.",
            f"{MAKE_EDITOR}. Else: is FOUNDRY_DATASET_RID right?",
            seen,
        )
    if name == "BranchNotFound":
        return Amiss("Foundry does not know the branch.", "Is FOUNDRY_BRANCH right?", seen)
    if name.endswith("PermissionDenied"):
        return Amiss("Our client has no role for that.", f"{MAKE_EDITOR}.", seen)
    if status == 404 and not name:
        return Amiss(
            "Foundry does not know the address: it answers 404 without a word.",
            "Is FOUNDRY_HOST the host of the stack itself?",
            seen,
        )
    return Amiss(f"Foundry answers {seen[0][1]}.", "Look that up in Foundry's API.", seen)


def shown(name: str) -> str:
    """A name of its own for an error; never a text of anybody."""
    return name if NAME.fullmatch(name) or re.fullmatch(r"[a-z]+/[a-z.+-]{1,60}", name) else ""
