"""Restoring a backup: the database's place taken by an older copy, and all that follows from it.

The log goes on in a new epoch, whose first event says so. The web app may have seen status events that the log has
forgotten: their sequences are left out, and nothing is delivered until a person says so. What was acknowledged after
the backup is compared, where the replaced database can still be read, and told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import projections.epochs
import projections.outbox
from gateway.domain.epoch import Epoch
from gateway.domain.events import circumstances
from gateway.errors import BackupUnusable, NotFound, StoreUnusable
from gateway.eventstore import anchors, backup, replacing
from gateway.eventstore.backup import Checked, Progress
from gateway.eventstore.chain import Anchor
from gateway.eventstore.connections import connect
from gateway.eventstore.losses import Losses, missing
from gateway.eventstore.ownership import Ownership, Use
from gateway.eventstore.replacing import Present
from gateway.eventstore.sequence_mark import SequenceMark
from projections.epochs import EpochRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a restore is going to do, for a person to agree to.

    `replaced` is the name under which the database that goes is kept, None where there is none; `losses` is None when
    it can't be compared: then all that is known is the time between the backup's last commit and now, and the last
    anchor that was taken of it (`last_anchor`).
    """

    backup: Checked
    epoch: int
    sequence_floor: int
    restored_at: datetime
    present: Present | None
    replaced: str | None
    losses: Losses | None
    last_anchor: Anchor | None

    @property
    def replaced_position(self) -> int | None:
        """The last position that is known of the replaced log."""
        if self.present and self.present.position is not None:
            return self.present.position
        return self.last_anchor.position if self.last_anchor else None

    def lost(self) -> dict[str, Any]:
        """What the log keeps of the losses."""
        if self.losses is None:
            return {"known": False, "accession_numbers": []}
        return {
            "known": self.losses.complete,
            **self.losses.counts(),
            "accession_numbers": self.losses.accession_numbers[:_MOST_NUMBERS],
        }


_MOST_NUMBERS = 2_000
"""Accession numbers kept in the event; `gateway backup lost` lists all for as long as the replaced file is there."""


def restore(
    database: Path,
    file: Path,
    *,
    operator: str,
    agreed: Callable[[Plan], bool],
    anchors_path: Path | None = None,
    sequence_floor: int | None = None,
    despite_chain: bool = False,
    progress: Progress = lambda _done, _all: None,
) -> Plan | None:
    """Put a copy of the backup in the database's place; None when `agreed` said no, and nothing was changed.

    The service must be stopped, and no command have the database open. `sequence_floor` is told where the mark of
    the highest `sequence` was lost (`gateway.eventstore.sequence_mark`); a higher one wins anyway. `despite_chain`
    takes a backup whose chain is not intact, which may be better than none. The replaced database is kept, whole,
    beside it, and the restore is noted in the anchors file. Raises `StoreUnusable`, `BackupUnusable`,
    `AnchorsUnusable`.
    """
    owner = _of_a_stopped_service(database)
    try:
        alone = Use(database, alone=True)
        try:
            replacing.sweep(database)
            kept = anchors.read(anchors_path).anchors if anchors_path and anchors_path.exists() else ()
            plan = _planned(database, file, sequence_floor, kept, despite_chain=despite_chain, progress=progress)
            if not agreed(plan):
                return None
            _carry_out(database, plan, operator)
            if anchors_path:
                anchors.note_restore(anchors_path, plan.backup.position, _instant(plan.restored_at))
            return plan
        finally:
            alone.release()
    except OSError as error:
        raise BackupUnusable(
            f"the backup can't be restored to {database}: {error.strerror}",
            remedy="the database that was there is still there; check rights and room, then restore again",
        ) from error
    finally:
        owner.release()


def _of_a_stopped_service(database: Path) -> Ownership:
    try:
        return Ownership(database)
    except StoreUnusable as error:
        raise StoreUnusable(error.message, remedy="stop the service, restore, start it again") from error


def note_restore(anchors_path: Path, epoch: EpochRow) -> None:
    """Note the restore in the anchors file, if one that was killed has not. Raises `AnchorsUnusable`."""
    anchors.note_restore(anchors_path, epoch.position, epoch.restored_at)


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _planned(
    database: Path,
    file: Path,
    sequence_floor: int | None,
    kept: Sequence[Anchor],
    *,
    despite_chain: bool,
    progress: Progress,
) -> Plan:
    if database.exists() and file.exists() and file.samefile(database):
        raise BackupUnusable(f"{file} is the database itself", remedy="name a backup: gateway backup list")
    checked = backup.check(file, progress=progress)
    if checked.damage or (checked.finding and not despite_chain):
        raise BackupUnusable(f"{file} is not restored: {checked.finding}", remedy=_remedy(checked))
    present = replacing.look_at(database)
    readable = present is not None and not present.damage
    now = datetime.now(UTC)
    with backup.reading(file) as connection:
        epoch, highest = projections.epochs.number(connection), _highest(connection)
    losses = None
    if readable:
        losses = missing(database, file, in_backup=True)
        epoch, highest = _with_what_is_there(database, epoch, highest)
    return Plan(
        backup=checked,
        epoch=epoch + 1,
        sequence_floor=max(_floor(database, sequence_floor), highest),
        restored_at=now,
        present=present,
        replaced=_free_name(database, now) if present else None,
        losses=losses,
        last_anchor=max(kept, key=lambda anchor: anchor.position, default=None),
    )


def _free_name(database: Path, now: datetime) -> str:
    name = f"{database.name}.replaced-{now:%Y%m%dT%H%M%SZ}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(free for free in names if not database.with_name(free).exists())


def _remedy(checked: Checked) -> str:
    other = "take another backup (gateway backup list)"
    return other if checked.damage else f"{other}; --despite-chain restores it all the same"


def _highest(connection: sqlite3.Connection) -> int:
    """The highest `sequence` that a database knows of."""
    try:
        return projections.outbox.highest_sequence(connection)
    except sqlite3.DatabaseError:
        return 0


def _with_what_is_there(database: Path, epoch: int, highest: int) -> tuple[int, int]:
    """The database that goes may be further: in epochs, so that no number comes twice, and in sequences."""
    try:
        with closing(connect(database)) as connection:
            return max(epoch, projections.epochs.number(connection)), max(highest, _highest(connection))
    except sqlite3.DatabaseError:
        return epoch, highest


def _floor(database: Path, told: int | None) -> int:
    try:
        return max(SequenceMark(database).read(), told or 0)
    except StoreUnusable as error:
        if told is None:
            raise BackupUnusable(
                f"{error.message}: it is not known which sequence of status events the web app has seen",
                remedy="--sequence-floor N: N is at least the highest the web app has seen; 1000000 is safe",
            ) from error
        return told


def _carry_out(database: Path, plan: Plan, operator: str) -> None:
    with replacing.workplace(database) as folder:
        new = replacing.copied(plan.backup.file, folder, database)
        with circumstances(source="operator", correlation_id=operator):
            replacing.append(new, _epoch(plan))
        if not replacing.fold(new):
            raise BackupUnusable(f"the copy in {folder} can't be finished", remedy="look at the disk")
        SequenceMark(database).raise_to(plan.sequence_floor)
        if plan.replaced is not None:
            folded = plan.present is not None and not plan.present.damage and replacing.fold(database)
            replacing.set_aside(database, database.with_name(plan.replaced), folded=folded)
        else:
            replacing.set_aside(database, database.with_name(f"{database.name}.left-over"), folded=False)
        replacing.take_place(new, database)


def _epoch(plan: Plan) -> Epoch:
    return Epoch.restore(
        number=plan.epoch,
        backup=plan.backup.file.name,
        position=plan.backup.position,
        head=plan.backup.head.hex(),
        backed_up_to=plan.backup.committed_at,
        restored_at=_instant(plan.restored_at),
        sequence_floor=plan.sequence_floor,
        replaced=plan.replaced,
        replaced_position=plan.replaced_position,
        lost=plan.lost(),
    )


def still_lost(database: Path, epoch: EpochRow) -> Losses:
    """What the replaced database holds and the log, as it is now, still lacks: what was sent again is no longer in it.

    Raises `NotFound` when that file is not there, `StoreUnusable` when it can't be read.
    """
    kept = database.with_name(epoch.replaced) if epoch.replaced else None
    if kept is None or not kept.exists():
        raise NotFound("the replaced database is not there, so what was lost can't be listed", field="replaced")
    try:
        return missing(kept, database, in_backup=False)
    except sqlite3.DatabaseError as error:
        raise StoreUnusable(f"{kept} can't be read: {error}") from error
