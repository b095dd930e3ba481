from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay import Limit
from relay.pace import Backoff, DialRate
from tests.relay.support import most_in_any


def test_waits_grow_from_half_a_second_to_thirty_with_full_jitter() -> None:
    ceilings = [0.5, 1, 2, 4, 8, 16, 30, 30]
    for _ in range(50):
        backoff = Backoff()
        assert all(0 <= backoff.next() <= ceiling for ceiling in ceilings)


def test_waits_may_have_a_least_length() -> None:
    for _ in range(50):
        backoff = Backoff(first=2.0, longest=8.0, least=1.0)
        assert all(1.0 <= backoff.next() <= ceiling for ceiling in (2.0, 4.0, 8.0, 8.0))


def test_after_a_reset_the_wait_is_short_again() -> None:
    backoff = Backoff()
    for _ in range(20):
        backoff.next()
    backoff.reset()
    assert backoff.attempt == 0
    assert backoff.next() <= 0.5


@given(st.lists(st.floats(0, 2), max_size=60))
def test_no_window_ever_holds_more_dials_than_its_limit(pauses: list[float]) -> None:
    rate, now, dials = DialRate((Limit(3, 1.0), Limit(8, 10.0))), 0.0, []
    for pause in pauses:
        now += pause
        now += rate.wait(now)
        rate.dialled(now)
        dials.append(now)
    assert most_in_any(dials, 1.0 - 1e-6) <= 3
    assert most_in_any(dials, 10.0 - 1e-6) <= 8


def test_the_first_dials_do_not_wait() -> None:
    rate = DialRate((Limit(3, 1.0),))
    for _ in range(3):
        assert rate.wait(5.0) == 0
        rate.dialled(5.0)
    assert rate.wait(5.0) == 1.0
