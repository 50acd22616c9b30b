"""`atlas misbehave`: lets the emulators of a running `atlas local` fail, for a rehearsal."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import msgspec
import typer

from atlas.cli.behaviour import parse_behaviour
from atlas.cli.configuration import JsonOption
from atlas.cli.emulator_client import EmulatorClient, EmulatorRequest, EmulatorState
from atlas.cli.emulators import PORT
from atlas.cli.program import render_program
from atlas.local.auth0 import Outage
from atlas.local.foundry import Behaviour, EmulatorOptions
from atlas.local.foundry.faults import CallName, Fault

STATUS = 503  # of a fault of another kind, where it means nothing
STATUS_NAMES: dict[int | None, str] = {  # the error names in Foundry's answers
    400: "InvalidFilePath",
    401: "Default:Unauthorized",
    403: "PermissionDenied",
    404: "DatasetNotFound",
    409: "OpenTransactionAlreadyExists",
}
CALLS_WITH_A_PATH = {"any", "upload", "file", "content", "delete"}
STOP = (
    EmulatorRequest("foundry", "DELETE", "faults"),
    EmulatorRequest("foundry", "DELETE", "settings"),
    EmulatorRequest("auth0", "POST", "outage", Outage(on=False)),
)
ROTATE = EmulatorRequest("auth0", "POST", "rotate")
ROTATIONS = 2  # the next key is published already, the one after it is not
FoundryKind = Literal["refused", "lost", "html", "rubbish", "torn", "empty", "wrong_types"]
Auth0Kind = Literal["cut", "html", "no-keys"]

PortOption = Annotated[
    int, typer.Option(min=1, max=65532, metavar="N", help="The port of `atlas local`.")
]
StatusOption = Annotated[
    int | None, typer.Option(min=400, max=599, metavar="N", help="Answer with this status.")
]
LatencyOption = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Answer this much later.")
]
TimesOption = Annotated[
    int, typer.Option(min=0, metavar="N", help="Fail N times. 0: until --stop.")
]
CallOption = Annotated[
    CallName | None,
    typer.Option(metavar="CALL", help=f"Only one kind of call: {', '.join(get_args(CallName))}."),
]
FoundryKindOption = Annotated[
    FoundryKind | None,
    typer.Option(metavar="KIND", help=f"Fail in another way: {', '.join(get_args(FoundryKind))}."),
]
Auth0KindOption = Annotated[
    Auth0Kind | None,
    typer.Option(metavar="KIND", help=f"Fail in another way: {', '.join(get_args(Auth0Kind))}."),
]
PathOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only files whose path contains TEXT.")
]
UserOption = Annotated[
    str | None, typer.Option(metavar="SUB", help="Only .ndjson files with rows of this user.")
]
RotateOption = Annotated[
    bool, typer.Option("--rotate", help="Sign new tokens with a key that Atlas has not fetched.")
]
StopOption = Annotated[bool, typer.Option("--stop", help="End all failures.")]
ListOption = Annotated[bool, typer.Option("--list", help="Show all failures.")]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def misbehave(
    context: typer.Context,
    is_over: StopOption = False,
    is_listed: ListOption = False,
    json: JsonOption = False,
    port: PortOption = PORT,
) -> None:
    """Let the emulators of `atlas local` fail, for a rehearsal.

    Example: atlas misbehave foundry --status 503 --times 20

    Example: atlas misbehave --stop
    """
    if context.invoked_subcommand is not None:
        if is_over or is_listed or json or port != PORT:
            raise typer.BadParameter("Options come after the name of the emulator.")
    elif is_over or is_listed:
        show(port, *(STOP if is_over else ()), is_json=json)
    else:
        typer.echo(context.get_help())


@app.command("foundry")
def fail_foundry(  # noqa: PLR0913, PLR0917 - one parameter for each option
    status: StatusOption = None,
    latency: LatencyOption = None,
    kind: FoundryKindOption = None,
    call: CallOption = None,
    path: PathOption = None,
    user: UserOption = None,
    times: TimesOption = 0,
    json: JsonOption = False,
    port: PortOption = PORT,
) -> None:
    """Let the Foundry emulator fail, for all calls or some.

    Of several failures for a call, the latest applies. With --path or --user, only uploads fail.

    Kinds: refused (not carried out, no answer), lost (carried out, no answer), html (502 of a
    gateway), rubbish (200, not JSON), torn (half of the answer), empty (no body), wrong_types.

    Example: atlas misbehave foundry --status 400 --user 'auth0|ada'

    Example: atlas misbehave foundry --latency 2 --path healthkit/raw/
    """
    require_one(status, latency, kind)
    has_target = path is not None or user is not None
    if "" in {path, user}:
        raise typer.BadParameter("--path and --user must not be empty.")
    if call is None:
        call = "upload" if has_target else "any"
    elif has_target and call not in CALLS_WITH_A_PATH:
        raise typer.BadParameter(f"{call} is not about a file: omit --path and --user.")
    fault = Fault(
        call=call,
        kind=kind if kind is not None else "latency" if status is None else "status",
        status=STATUS if status is None else status,
        name=STATUS_NAMES.get(status, "Default:Internal"),
        seconds=0.0 if latency is None else latency,
        path="" if path is None else path,
        user="" if user is None else user,
        count=times,
    )
    show(port, EmulatorRequest("foundry", "POST", "faults?first=1", fault), is_json=json)


@app.command("auth0")
def fail_auth0(
    status: StatusOption = None,
    latency: LatencyOption = None,
    kind: Auth0KindOption = None,
    rotate: RotateOption = False,
    times: TimesOption = 0,
    json: JsonOption = False,
    port: PortOption = PORT,
) -> None:
    """Let the Auth0 emulator fail when Atlas fetches the keys.

    Atlas fetches them once an hour and, with --rotate, at the next new token, but not within five
    minutes after it has fetched them.

    Example: atlas misbehave auth0 --status 503 --rotate
    """
    require_one(status, latency, kind)
    answer = status if kind is None else kind.replace("-", " ")
    body = {"status": answer, "seconds": 0.0 if latency is None else latency, "count": times}
    rotations = [ROTATE] * (ROTATIONS if rotate else 0)
    outage = EmulatorRequest("auth0", "POST", "outage", body)
    show(port, outage, *rotations, is_json=json)


@app.command("behaviour")
def change_behaviour(
    modes: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE", help="A behaviour and its value.")
    ],
    json: JsonOption = False,
    port: PortOption = PORT,
) -> None:
    """Change undocumented behaviour of the Foundry emulator.

    The names and values are those of `atlas local --foundry-behaviour`.

    Example: atlas misbehave behaviour path_taken=upload busy=unnamed
    """
    behaviour = parse_behaviour(modes, "NAME=VALUE")
    body = {
        name: getattr(behaviour, name) for name, _, _ in (each.partition("=") for each in modes)
    }
    show(port, EmulatorRequest("foundry", "POST", "settings", body), is_json=json)


def require_one(status: int | None, latency: float | None, kind: str | None) -> None:
    """Raise typer.BadParameter unless it is a status, a latency, both of them, or a kind."""
    if kind is not None and (status is not None or latency is not None):
        raise typer.BadParameter("--kind excludes --status and --latency.")
    if kind is None and status is None and latency is None:
        raise typer.BadParameter("Say how it fails: --status, --latency or --kind.")


def show(port: int, *requests: EmulatorRequest, is_json: bool = False) -> None:
    """Send the requests to the emulators, and print the state afterwards."""
    state = EmulatorClient(port).send(*requests)
    if is_json:
        typer.echo(msgspec.json.encode(state))
        return
    lines = list(render_state(state))
    typer.echo("\n".join(lines) if lines else "The emulators behave as usual.")
    if lines and STOP[-1] in requests:
        typer.echo("It began with options of `atlas local`: start it without them.", err=True)
    elif lines:
        option = "" if port == PORT else f" --port {port}"
        typer.echo(f"To end this: {render_program()} misbehave --stop{option}", err=True)


def render_state(state: EmulatorState) -> Iterator[str]:
    """Yield a line for each failure, the first that applies first."""
    for fault in state.faults:
        answer = {"status": str(fault.status), "latency": ""}.get(fault.kind, fault.kind)
        yield render_failure("Foundry", answer, fault.seconds, render_target(fault), fault.count)
    usual = decode_fields(EmulatorOptions()) | decode_fields(Behaviour())
    for name, value in state.settings.items():
        if value != usual[name]:
            yield f"Foundry: {name}={msgspec.json.encode(value).decode()}"
    outage = state.outage
    if outage.on:
        answer = "" if outage.status is None else str(outage.status)
        yield render_failure("Auth0", answer, outage.seconds, "requests for keys", outage.count)


def decode_fields(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields as they are in JSON."""
    return msgspec.json.decode(msgspec.json.encode(struct), type=dict[str, Any])


def render_failure(system: str, answer: str, seconds: float, target: str, count: int) -> str:
    parts = [answer, f"{seconds:g} s late" if seconds or not answer else ""]
    times = f", {count} times" if count else ""
    return f"{system}: {', '.join(filter(None, parts))} to {target}{times}"


def render_target(fault: Fault) -> str:
    calls = "every call" if fault.call == "any" else f"{fault.call} calls"
    path = f" with {fault.path} in the path" if fault.path else ""
    user = f" with rows of {fault.user}" if fault.user else ""
    return calls + path + user
