"""The gateway's use cases, one method each: load, decide and save inside one retry (design §3.4, §3.16).

What comes over the relay carries an `ActionRequest`: its effect and its receipt are saved in one transaction, and the
same request is answered from the receipt ever after. What an operator or a modality asks raises what it can't have.

One module for each idea. Those that change something stand on `deciding`, those that only look on `store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.application.appointments import Appointments
from gateway.application.checks import Checks
from gateway.application.deliveries import Deliveries
from gateway.application.files import is_missing, make_folder
from gateway.application.steps import StepOutcome, Steps
from gateway.application.store import PROJECTIONS
from gateway.application.studies import Studies, StudyOutcome

__all__ = ["PROJECTIONS", "Gateway", "StepOutcome", "StudyOutcome", "is_missing", "make_folder", "opened"]


class Gateway(Appointments, Steps, Studies, Deliveries, Checks):
    """The application over one database file. Safe to call from many threads.

    Every method that writes may raise `OutcomeUnknown` or `Contention`: ask again.
    """

    name = "gateway"


@contextmanager
def opened(
    path: Path, *, report_wrong_entry: bool = False, sealing: bool = False, keys_path: Path | None = None
) -> Iterator[Gateway]:
    """The application for as long as the `with` lasts."""
    gateway = Gateway(path, report_wrong_entry=report_wrong_entry, sealing=sealing, keys_path=keys_path)
    try:
        yield gateway
    finally:
        gateway.close()
