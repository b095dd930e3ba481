"""What is flat is acquitted, what grows is not, and the beginning of a life counts for nothing."""

from __future__ import annotations

import os

import pytest

from tests.soak.memory import Moment, complaints, figure, judged, look_at


def life(number: int, *, mib: float = 0.0, files: float = 0.0, count: int = 40) -> list[Moment]:
    """Moments five seconds apart; it grows by so much each, and by a lot in its first few."""
    return [
        Moment(5.0 * at, number, 80 + min(at, 5) * 3 + mib * at + at % 3, 40 + round(files * at) + at % 4)
        for at in range(count)
    ]


def test_caches_that_fill_and_noise_are_flat() -> None:
    assert complaints(life(1)) == []
    assert "in the last 95 s of a life" in figure(life(1))


@pytest.mark.parametrize(("leaking", "what"), [({"mib": 0.9}, "MiB more"), ({"files": 1}, "open files more")])
def test_what_grows_to_the_end_is_complained_of(leaking: dict[str, float], what: str) -> None:
    (complaint,) = complaints(life(1, **leaking))
    assert what in complaint


def test_only_the_longest_life_is_judged_and_none_that_was_short() -> None:
    assert {moment.life for moment in judged([*life(1, mib=3, count=10), *life(2)])} == {2}
    assert judged(life(1, count=8)) == []
    assert "not judged" in figure([])


def test_a_process_is_looked_at_from_outside() -> None:
    moment = look_at(os.getpid(), 1.0, 2)
    if moment is not None:  # no /proc elsewhere
        assert moment.resident_mib > 10
        assert moment.descriptors > 2
