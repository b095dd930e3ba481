"""For any history, with backups taken and restored in it at any moments: the web app is never told a lie.

The web app remembers more than the log. What it may have seen is kept here over every restore: whatever is new after
one has a `sequence` above all that it saw of that appointment, and no event_id comes back with another content.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from gateway.application import Gateway
from gateway.audit.restore import restore, still_lost
from gateway.errors import IllegalTransition
from gateway.eventstore.backup import check, take
from tests.properties.test_any_history import AnyHistory


class AnyRestore(AnyHistory):
    """Any history, with restores in it."""

    def __init__(self) -> None:
        super().__init__()
        self.gateway.keep_sequence_mark()  # as the service does when it starts
        self.backups: list[tuple[Path, dict[str, Any]]] = []
        self.highest: dict[str, int] = {}
        self.told: dict[str, tuple[str, str]] = {}
        self.lost: set[str] = set()
        """Actions answered and lost, since somebody last let the outbox go on."""

    @rule()
    def a_backup_is_taken(self) -> None:
        taken = take(self.path, self.folder / "backups").file
        kept = self.folder / f"{len(self.backups)}.db"
        shutil.copy(taken, kept)
        found = check(kept)
        assert not found.finding
        assert found.position == self.gateway.check_store()
        self.backups.append((kept, dict(self.answers)))

    @precondition(lambda self: self.backups)
    @rule(which=st.integers(0, 3))
    def a_backup_is_restored(self, which: int) -> None:
        self.gateway.close()
        file, answers = self.backups[which % len(self.backups)]
        plan = restore(self.path, file, operator="night shift", agreed=lambda _: True)
        assert plan is not None
        assert plan.losses is not None
        assert plan.losses.complete
        lost = set(plan.losses.actions)
        answered = {name for name, answer in self.answers.items() if answers.get(name) != answer}
        assert answered <= lost, "whatever was answered since, or otherwise, may be lost"
        assert {name for name in lost if not name.startswith("unidentified-")} <= self.answers.keys() | self.lost
        self.lost = {name for name in (self.lost | answered) if name not in answers or name in answered}
        assert {name for name in self.lost if name not in answers} <= lost, "earlier restores' losses are carried over"
        self.answers = dict(answers)
        self.positions = 0
        self.gateway = Gateway(self.path)
        assert self.gateway.due_updates() == []
        assert self.gateway.verify_chain().intact

    @rule()
    def a_person_lets_the_outbox_go_on(self) -> None:
        waiting = self.gateway.count_updates().waiting
        with suppress(IllegalTransition):
            assert self.gateway.resume_delivery(operator="day shift") == waiting
            self.lost = set()

    @precondition(lambda self: self.lost)
    @rule()
    def somebody_asks_what_is_still_lost(self) -> None:
        epoch = self.gateway.restored()
        assert epoch is not None
        found = still_lost(self.path, epoch)
        assert found.complete
        named = {name for name in found.actions if not name.startswith("unidentified-")}
        assert self.lost - self.answers.keys() <= named
        assert not named & self.answers.keys(), "what was sent again is no longer lost"

    @invariant()
    def updates_are_numbered_without_gaps_and_at_most_one_is_due_per_item(self) -> None:
        """Instead of that: restores leave gaps."""
        updates = [r for s in ("waiting", "parked", "acknowledged") for r in self.gateway.find_updates(state=s)]
        for row in sorted(updates, key=lambda row: row.sequence):
            number, content = row.accession_number, (row.accession_number, row.status)
            if row.event_id not in self.told:
                assert row.sequence > self.highest.get(number, 0)
            assert self.told.setdefault(row.event_id, content) == content
            self.highest[number] = max(row.sequence, self.highest.get(number, 0))
        epoch = self.gateway.restored()
        if epoch is None or epoch.resumed_at:
            due = [row.accession_number for row in self.gateway.due_updates()]
            assert len(due) == len(set(due))
        else:
            assert self.gateway.due_updates() == []


AnyRestore.TestCase.settings = settings(
    max_examples=6,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyRestore = pytest.mark.slow(AnyRestore.TestCase)
