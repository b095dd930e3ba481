"""`gateway relay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.settings import Settings
    from relay import RelayError, SharedAccessKey
    from relay.emulator import Emulator

relay = typer.Typer(no_args_is_help=True, help="Azure Relay.")

_PATIENCE = 10.0
_DETAILS = (
    "since", "connected_at", "last_proof", "round_trip_ms", "proven_by", "reconnects", "token_expires_at", "error",
    "warning",
)  # fmt: skip


class Unreachable(GatewayError):
    """The service can't be asked."""

    code = "unreachable"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(relay, name="relay")


@relay.callback()
def _group() -> None:
    """Azure Relay Hybrid Connections."""


@relay.command(
    epilog="Example: gateway relay emulate --port 9080 --hybrid-connection actions --hybrid-connection events"
)
def emulate(
    hybrid_connection: Annotated[list[str], typer.Option(help="Name of a hybrid connection; may be repeated.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 9080,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    tls: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Serve wss; ca.pem is made in there and is to be trusted.")
    ] = None,
    bearer: Annotated[
        bool, typer.Option("--bearer", help="Take every Microsoft Entra token whose audience and expiry hold.")
    ] = False,
) -> None:
    """Run a local emulator of Azure Relay Hybrid Connections, until Ctrl-C.

    Key name and key come from AZURE_RELAY_KEY_NAME and AZURE_RELAY_SHARED_ACCESS_KEY; without a key one is made up.
    """
    import asyncio
    import secrets

    from relay import SharedAccessKey
    from relay.emulator.commands import DEFAULT_KEY_NAME

    settings = output.settings()
    given = _key(settings)
    key = given or SharedAccessKey(settings.azure_relay_key_name or DEFAULT_KEY_NAME, secrets.token_urlsafe(32))
    shown = "***" if given else key.key
    asyncio.run(_run(_emulator(host, port, hybrid_connection, {key.name: key.key}, tls, bearer=bearer), shown))


def _key(settings: Settings) -> SharedAccessKey | None:
    """The key of the settings, if they have one."""
    from relay import SharedAccessKey
    from relay.emulator.commands import DEFAULT_KEY_NAME

    given = settings.azure_relay_shared_access_key
    return (
        SharedAccessKey(settings.azure_relay_key_name or DEFAULT_KEY_NAME, given.get_secret_value()) if given else None
    )


@relay.command(epilog="Example: gateway relay fault reject status=429 retry_after=5 --path actions --times 3")
def fault(
    name: Annotated[str | None, typer.Argument(help="Without: what there is.", show_default=False)] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Argument(metavar="PARAMETER=VALUE", help="As the list of faults shows them.", show_default=False),
    ] = None,
    path: Annotated[str | None, typer.Option(help="The hybrid connection it is kept to.")] = None,
    times: Annotated[int | None, typer.Option(help="How often it strikes.")] = None,
    lasting: Annotated[float | None, typer.Option(help="Seconds after which it ends.")] = None,
    end: Annotated[bool, typer.Option("--end", help="End it; without a name: all.")] = False,
    emulator: Annotated[str, typer.Option(help="Where gateway relay emulate runs.")] = "http://127.0.0.1:9080",
    ca: Annotated[Path | None, typer.Option(help="The emulator's ca.pem, for https.")] = None,
    json: output.Json = False,
) -> None:
    """Have something go wrong in a running emulator, or list what can.

    Where it runs on another machine, AZURE_RELAY_KEY_NAME and AZURE_RELAY_SHARED_ACCESS_KEY must be its key.
    """
    from relay import RelayError
    from relay.emulator.commands import FaultCommand, told
    from relay.emulator.faults import in_words
    from relay.emulator.remote import RemoteEmulator

    command = FaultCommand(name=name, words=parameter or (), path=path, times=times, lasting=lasting, end=end)
    try:
        answer = command.carry_out(RemoteEmulator(emulator, ca, _key(output.settings())))
    except RelayError as error:
        raise _told(error) from error
    if json:
        output.put_json(answer)
        return
    if not name and not end:
        rows = [(kind["name"], " ".join(in_words(kind["parameters"])), kind["summary"]) for kind in answer["catalogue"]]
        output.put_table(("fault", "parameters", "what happens"), rows)
    for line in told(answer):
        output.say(line)


_FIELDS = {
    "bad_address": "emulator",
    "bad_ca": "ca",
    "unknown_path": "path",
    "no_trustme": "tls",
    "bad_folder": "tls",
    "bad_name": "hybrid_connection",
    "bad_key": "azure_relay_shared_access_key",
    "bad_key_name": "azure_relay_key_name",
}
"""The option or setting that an error of configuration is about, by its code; the others are about a fault."""


def _told(error: RelayError) -> GatewayError:
    """The relay's error as one of ours, with an exit code of ours."""
    from gateway.errors import InvalidValue
    from relay import ConfigurationError

    if isinstance(error, ConfigurationError):
        return InvalidValue(error.message, field=_FIELDS.get(error.code, "fault"), remedy=error.remedy)
    return Unreachable(f"{error.message} at {error.address}", remedy=error.remedy)


@relay.command(epilog="Example: gateway relay status")
def status(json: output.Json = False) -> None:
    """Ask the running service whether it hears the relay, since when, and what last proved it."""
    report = _asked(output.settings())
    answer = {name: report.get(name) for name in ("ok", "state", *_DETAILS)}
    if json:
        output.put_json(answer)
    else:
        rows = [(name.replace("_", " "), value) for name, value in answer.items() if name != "ok" and value is not None]
        output.put_table(("relay", ""), rows)
    if not answer["ok"]:
        raise typer.Exit(1)


def _asked(settings: Settings) -> dict[str, Any]:
    """The relay's part of what the ops port says. Raises `Unreachable`."""
    from http.client import HTTPConnection, HTTPException
    from json import loads

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.gateway_ops_host, settings.gateway_ops_host)  # noqa: S104  compared, not bound
    where = f"{host}:{settings.gateway_ops_port}"
    connection = HTTPConnection(host, settings.gateway_ops_port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/health")
        report = loads(connection.getresponse().read())["checks"]["relay"]
    except OSError as error:
        raise Unreachable(
            f"nobody answers at the ops port {where}: {error.strerror or 'timed out'}",
            remedy="is gateway serve running? GATEWAY_OPS_HOST and GATEWAY_OPS_PORT must be the service's",
        ) from error
    except (HTTPException, ValueError, LookupError, TypeError):
        report = None
    finally:
        connection.close()
    if not isinstance(report, dict):
        raise Unreachable(
            f"what answers at {where} is not the gateway", remedy="GATEWAY_OPS_PORT must be the service's"
        )
    return report


def _emulator(
    host: str, port: int, names: list[str], keys: dict[str, str], tls: Path | None, *, bearer: bool
) -> Emulator:
    from relay import ConfigurationError
    from relay.emulator import Emulator as LocalRelay
    from relay.emulator import EmulatorOptions
    from relay.emulator.certificates import self_made
    from relay.emulator.commands import is_web_token

    try:
        options = EmulatorOptions(
            tls=self_made(tls, host) if tls else None, accepts_bearer=is_web_token if bearer else None
        )
        return LocalRelay(host, port, hybrid_connections=names, keys=keys, options=options)
    except ConfigurationError as error:
        raise _told(error) from error


async def _run(emulator: Emulator, shown_key: str) -> None:
    from gateway.errors import PortUnusable
    from relay import ConnectionString, RelayError, SharedAccessKey
    from relay.emulator.commands import serve_until_stopped

    def started() -> None:
        namespace = emulator.namespace
        output.say(f"emulating {', '.join(emulator.paths)} at {namespace.origin}; connect with")
        [name] = emulator.key_names
        string = ConnectionString(namespace, SharedAccessKey(name, shown_key))
        output.put_now(string.format())  # somebody may read it from a pipe

    try:
        await serve_until_stopped(emulator, started)
    except RelayError as error:
        raise PortUnusable(error.message, remedy=error.remedy) from error
