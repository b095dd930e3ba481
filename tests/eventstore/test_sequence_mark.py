"""The high-water mark of sequences: durable before a sequence is committed, ahead in blocks, made anew from the log."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from bench.synthetic import change, completed, examine, naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.errors import DiskFull, OutcomeUnknown, StoreUnusable
from gateway.eventstore.sequence_mark import BLOCK, SequenceMark


@pytest.fixture
def mark(path: Path) -> SequenceMark:
    return SequenceMark(path)


def test_the_file_is_there_and_private_once_a_sequence_is_committed_and_is_ahead_of_it(
    gateway: Gateway, mark: SequenceMark
) -> None:
    schedule(gateway)
    assert not mark.path.exists()
    start(gateway, step_uid(1), naming())
    assert mark.read() == 1 + BLOCK
    assert oct(mark.path.stat().st_mode & 0o777) == "0o600"


def test_it_is_written_once_for_a_block(gateway: Gateway, mark: SequenceMark) -> None:
    examine(gateway, 1)
    before = mark.path.stat().st_ino, mark.path.stat().st_mtime_ns
    for number in range(2, 30):
        examine(gateway, number)
    assert (mark.path.stat().st_ino, mark.path.stat().st_mtime_ns) == before


def test_a_sequence_above_it_raises_it_first(gateway: Gateway, mark: SequenceMark) -> None:
    schedule(gateway)
    mark.raise_to(1)
    start(gateway, step_uid(1), naming())
    assert mark.read() == 1
    change(gateway, completed(step_uid(1)))
    assert mark.read() == 2 + BLOCK


def test_where_it_can_t_be_written_nothing_is_committed_that_it_does_not_cover(
    gateway: Gateway, mark: SequenceMark
) -> None:
    schedule(gateway)
    mark.path.mkdir()  # a name that no file can take
    with pytest.raises(OutcomeUnknown, match="high-water mark") as refused:
        start(gateway, step_uid(1), naming())
    assert not isinstance(refused.value, DiskFull)
    assert gateway.find_updates() == []
    mark.path.rmdir()
    start(gateway, step_uid(1), naming())
    assert [row.sequence for row in gateway.find_updates()] == [1]


@pytest.mark.parametrize("spoilt", [None, "", "12", "12 deadbeef\n", "-3 00000000\n", "twelve x\n", "\u0661 x\n"])
def test_a_missing_or_damaged_one_is_known_and_made_anew_from_the_log(
    path: Path, mark: SequenceMark, spoilt: str | None
) -> None:
    with opened(path) as gateway:
        examine(gateway, 1)
    mark.path.unlink()
    if spoilt is not None:
        mark.path.write_text(spoilt, "utf-8")
    with pytest.raises(StoreUnusable, match="high-water mark"):
        mark.read()
    with opened(path) as gateway:
        gateway.keep_sequence_mark()
    assert mark.read() == 2 + BLOCK


def test_one_of_another_database_that_is_too_low_does_not_count(path: Path, mark: SequenceMark) -> None:
    with opened(path) as gateway:
        examine(gateway, 1)
    mark.raise_to(1)
    with opened(path) as gateway:
        gateway.keep_sequence_mark()
    assert mark.read() == 2 + BLOCK


def _raise_it(path: Path, sequences: list[int]) -> None:
    with opened(path) as gateway:
        for sequence in sequences:
            gateway._sequence_mark.kept = 0
            gateway.keep_sequence_mark(sequence)
            assert SequenceMark(path).read() >= sequence


@pytest.mark.slow
def test_two_processes_never_lower_it(path: Path, mark: SequenceMark) -> None:
    with opened(path):
        pass
    spawn = multiprocessing.get_context("spawn")
    steps = [list(range(first, 60_000, 2 * BLOCK)) for first in (1, BLOCK)]
    processes = [spawn.Process(target=_raise_it, args=(path, sequences)) for sequences in steps]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert mark.read() >= max(map(max, steps))
