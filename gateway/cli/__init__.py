"""The command line: one verb, one function. Verbs import what they need when they run, so that each starts fast."""

from __future__ import annotations

import atexit
import gc
import sys

import typer

from gateway.cli.verbs import Verbs
from gateway.errors import GatewayError, InvalidValue, SettingsInvalid

WELL, UNWELL, MISUSED, UNREACHABLE = range(4)
"""Exit codes of every verb."""

_OBJECTS = 100_000
"""So many new ones before garbage is looked for. Imports make many and leave none, and looking at them all, again and
again, costs a short verb an eighth of its time."""

app = typer.Typer(
    cls=Verbs,
    callback=lambda: None,  # typer makes no group of an app that registers nothing itself
    help="Appointments in over Azure Relay, a DICOM worklist for modalities, procedure status back.",
    epilog="Exit codes: 0 well, 1 unwell, 2 misused, 3 unreachable. Data goes to stdout, talk to stderr.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run a verb; what fails is told in one line with its code and what to do."""
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)  # the memory goes back as a whole: no last look at each object
    try:
        app()
    except GatewayError as error:
        sys.stderr.write(f"gateway: {error.code}: {error}\n")
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.exit(UNWELL)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left: nothing to say to anybody
    except Exception as error:
        from gateway.log import places

        if sys.excepthook is not sys.__excepthook__:
            raise  # the service tells it in its log
        where = " < ".join(reversed(places(error.__traceback__)))
        sys.stderr.write(f"gateway: internal: {type(error).__name__} at {where}\n")
        sys.exit(UNWELL)


def _exit_code(error: GatewayError) -> int:
    if isinstance(error, SettingsInvalid | InvalidValue):
        return MISUSED
    return UNREACHABLE if error.code == "unreachable" else UNWELL
