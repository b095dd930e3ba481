"""A gateway on a real file, and items that were examined."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.synthetic import change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway


@pytest.fixture
def begin(gateway: Gateway) -> Callable[[int], str]:
    """Schedule and start the n-th examination: one status update is owed."""

    def begun(number: int = 1) -> str:
        accession_number = f"ACC{number:03d}"
        schedule(gateway, accession_number)
        start(gateway, step_uid(number), naming(accession_number))
        return accession_number

    return begun


@pytest.fixture
def examine(gateway: Gateway, begin: Callable[[int], str]) -> Callable[[int], str]:
    """The whole n-th examination: two status updates are owed."""

    def examined(number: int = 1) -> str:
        accession_number = begin(number)
        change(gateway, completed(step_uid(number)))
        return accession_number

    return examined
