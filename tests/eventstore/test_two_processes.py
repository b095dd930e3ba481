"""Two processes on one file: nothing is lost, nothing is done twice, one chain."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from bench.synthetic import appointment, create_request, examine, schedule
from gateway.application import opened

ITEMS = 25


def _work(path: Path, first: int) -> None:
    with opened(path) as gateway:
        for number in range(first, first + ITEMS):
            examine(gateway, number)
            shared = appointment(f"SHARED{number - first}")
            gateway.schedule(shared, request=create_request(f"shared-{number - first}", shared))


def test_two_processes_on_one_file_lose_nothing_and_keep_one_chain(path: Path) -> None:
    """They also create the database together, and ask for the same items under the same action ids."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_work, args=(path, first)) for first in (1000, 2000)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    with opened(path) as gateway:
        assert gateway.count_by_status() == {"COMPLETED": 2 * ITEMS, "SCHEDULED": ITEMS}
        assert gateway.check_store() == 2 * ITEMS * 10 + ITEMS * 2
        assert gateway.verify_chain().intact
        assert gateway.verify_projections() == []
        schedule(gateway, "AFTER")
