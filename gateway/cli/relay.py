"""`gateway relay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.settings import Settings

relay = typer.Typer(no_args_is_help=True, help="Azure Relay.")

_DEFAULT_KEY_NAME = "RootManageSharedAccessKey"
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
) -> None:
    """Run a local emulator of Azure Relay Hybrid Connections, until Ctrl-C.

    Key name and key come from AZURE_RELAY_KEY_NAME and AZURE_RELAY_SHARED_ACCESS_KEY; without a key one is made up.
    """
    import asyncio
    import secrets

    settings = output.settings()
    given = settings.azure_relay_shared_access_key
    key = given.get_secret_value() if given else secrets.token_urlsafe(32)
    name = settings.azure_relay_key_name or _DEFAULT_KEY_NAME
    shown = "***" if given else key
    asyncio.run(_run(host, port, hybrid_connection, name, key, shown))


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


async def _run(host: str, port: int, names: list[str], key_name: str, key: str, shown_key: str) -> None:
    import asyncio
    import signal

    from gateway.errors import PortUnusable
    from relay.emulator import Emulator

    emulator = Emulator(host, port, hybrid_connections=names, keys={key_name: key})
    try:
        await emulator.start()
    except OSError as error:
        raise PortUnusable(
            f"port {port} can't be listened at: {error.strerror}", remedy="choose another --port"
        ) from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    where = emulator.namespace.authority
    output.say(f"emulating {', '.join(names)} at ws://{where}; connect with")
    output.put_now(  # somebody may read it from a pipe
        f"Endpoint=sb://{where}/;SharedAccessKeyName={key_name};SharedAccessKey={shown_key};UseDevelopmentEmulator=true"
    )
    try:
        await stop.wait()
    finally:
        await emulator.stop()
