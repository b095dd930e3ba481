"""`gateway relay`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import output

relay = typer.Typer(no_args_is_help=True, help="Azure Relay.")

_DEFAULT_KEY_NAME = "RootManageSharedAccessKey"


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
