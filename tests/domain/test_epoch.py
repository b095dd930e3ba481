"""An epoch of the log: begun by a restore, and let go on once."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.epoch import Epoch
from gateway.errors import IllegalTransition

RESTORED: dict[str, Any] = {
    "number": 2,
    "backup": "gateway-20261123T030000Z-40.db",
    "position": 40,
    "head": "00" * 32,
    "backed_up_to": "2026-11-23T02:59:00+00:00",
    "restored_at": "2026-11-23T09:30:00+00:00",
    "sequence_floor": 1001,
    "replaced": None,
    "replaced_position": None,
    "lost": {"known": False, "accession_numbers": []},
}


def test_its_first_event_holds_all_that_is_known_of_the_restore() -> None:
    epoch = Epoch.restore(**RESTORED)
    [event] = epoch.collect_events()
    assert {name: getattr(event, name) for name in RESTORED} == RESTORED
    assert event.originator_id == Epoch.create_id(2) != Epoch.create_id(3)


def test_it_is_resumed_once() -> None:
    epoch = Epoch.restore(**RESTORED)
    epoch.resume(3, "looked at what was lost")
    resumed = epoch.collect_events()[-1]
    assert isinstance(resumed, Epoch.DeliveryResumed)
    assert (resumed.waiting, resumed.reason) == (3, "looked at what was lost")
    with pytest.raises(IllegalTransition, match="does not wait"):
        epoch.resume(3)
