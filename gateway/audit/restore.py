"""Restoring a backup: the database's place taken by an older copy, and all that follows from it.

The log goes on in a new epoch, whose first event says so. The web app may have seen status events that the log has
forgotten: their sequences are left out, and nothing is delivered until a person says so. What was acknowledged after
the backup is compared, where the replaced database can still be read, and told.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any, cast

import projections.epochs
import projections.outbox
import projections.patient_keys
from gateway.domain.epoch import Epoch
from gateway.domain.events import circumstances
from gateway.errors import BackupUnusable, EventUnreadable, KeyLost, NotFound, StoreUnusable
from gateway.eventstore import anchors, backup, replacing, replay, selection
from gateway.eventstore.backup import Checked, Progress
from gateway.eventstore.chain import Anchor
from gateway.eventstore.connections import connect
from gateway.eventstore.keys import KeyFile
from gateway.eventstore.losses import Losses, add_missing
from gateway.eventstore.ownership import Ownership, Use
from gateway.eventstore.replacing import Present
from gateway.eventstore.sealing import KeyIndex, Sealing, default_path, key_ids, keys_of
from gateway.eventstore.sequence_mark import SequenceMark
from projections.epochs import EpochRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a restore is going to do, for a person to agree to.

    `replaced` is the name under which the database that goes is kept, None where there is none; `earlier` are those of
    restores before, which nobody has looked at yet (`gateway outbox resume`): what they lost is in `losses` too.
    `losses` is None when nothing can be compared: then all that is known is the time between the backup's last commit
    and now, and the last anchor that was taken of it (`last_anchor`). `unreadable` says which event of a sealed backup
    can't be read, "" when all can.
    """

    backup: Checked
    epoch: int
    sequence_floor: int
    restored_at: datetime
    present: Present | None
    replaced: str | None
    earlier: tuple[str, ...]
    losses: Losses | None
    unreadable: str
    last_anchor: Anchor | None

    @property
    def replaced_position(self) -> int | None:
        """The last position that is known of the replaced log."""
        if self.present and self.present.position is not None:
            return self.present.position
        return self.last_anchor.position if self.last_anchor else None

    def lost(self) -> dict[str, Any]:
        """What the log keeps of the losses."""
        earlier = {EARLIER: list(self.earlier)} if self.earlier else {}
        if self.losses is None:
            return {"known": False, "accession_numbers": [], **earlier}
        return {
            "known": self.losses.complete,
            **self.losses.counts(),
            "accession_numbers": self.losses.concerned()[:_MOST_NUMBERS],
            **earlier,
        }


EARLIER = "earlier"
"""In what the log keeps of the losses: the names of the files that `Plan.earlier` has."""

_MOST_NUMBERS = 2_000
"""Accession numbers kept in the event; `gateway backup lost` lists all for as long as the replaced file is there."""


def restore(
    database: Path,
    file: Path,
    *,
    operator: str,
    agreed: Callable[[Plan], bool],
    anchors_path: Path | None = None,
    keys_path: Path | None = None,
    sequence_floor: int | None = None,
    despite_chain: bool = False,
    progress: Progress = lambda _done, _all: None,
) -> Plan | None:
    """Put a copy of the backup in the database's place; None when `agreed` said no, and nothing was changed.

    The service must be stopped, and no command have the database open. `sequence_floor` is told where the mark of
    the highest `sequence` was lost (`gateway.eventstore.sequence_mark`); a higher one wins anyway. `despite_chain`
    takes a backup whose chain is not intact, which may be better than none. The replaced database is kept, whole,
    beside it, and the restore is noted in the anchors file. A backup with sealed events is taken only with its keys at
    `keys_path` (by default beside the database). Raises `StoreUnusable`, `KeyLost`, `BackupUnusable`,
    `AnchorsUnusable`.
    """
    owner = _of_a_stopped_service(database)
    try:
        alone = Use(database, alone=True)
        try:
            replacing.sweep(database)
            kept = anchors.read(anchors_path).anchors if anchors_path and anchors_path.exists() else ()
            checked = _accepted(database, file, despite_chain=despite_chain, progress=progress)
            unreadable = _with_its_keys(file, keys_path or default_path(database), checked)
            plan = _planned(database, checked, sequence_floor, kept, unreadable)
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


def _accepted(database: Path, file: Path, *, despite_chain: bool, progress: Progress) -> Checked:
    if database.exists() and file.exists() and file.samefile(database):
        raise BackupUnusable(f"{file} is the database itself", remedy="name a backup: gateway backup list")
    checked = backup.check(file, progress=progress)
    if checked.damage or (checked.finding and not despite_chain):
        raise BackupUnusable(f"{file} is not restored: {checked.finding}", remedy=_remedy(checked))
    return checked


def _with_its_keys(file: Path, keys_path: Path, checked: Checked) -> str:
    """Refuse a backup that nobody could open afterwards; say what of an altered one can't be read.

    Raises `KeyLost`, `BackupUnusable`.
    """
    intact = checked.chain.intact
    with backup.reading(file) as connection:
        keys = keys_of(connection, keys_path)
        if keys is None:
            return "" if intact else _first_unreadable(connection, None)
        try:
            states, needed = keys.states(), _known_keys(connection)
            missing = (needed | key_ids(connection) if intact else needed) - states.keys()
            if missing:
                raise KeyLost(
                    f"{file} is not restored: the key file {keys_path} lacks {len(missing)} of its keys: it is older",
                    remedy="put the newest copy of the key file back, then restore again",
                )
            unreadable = "" if intact else _first_unreadable(connection, keys)
            if unreadable and any(states[key_id] for key_id in needed):
                raise BackupUnusable(
                    f"{file} is not restored: persons were erased since, so its tables must be built anew, and that "
                    f"fails: {unreadable}",
                    remedy="take another backup (gateway backup list)",
                )
            return unreadable
        finally:
            keys.close()


def _known_keys(connection: sqlite3.Connection) -> set[str]:
    try:
        return projections.patient_keys.known_keys(connection)
    except sqlite3.OperationalError:  # of a release that had no such table
        return set()


def _first_unreadable(connection: sqlite3.Connection, keys: KeyFile | None) -> str:
    index = cast("KeyIndex", projections.patient_keys)
    mapper = replacing.mapper(Sealing.with_keys(keys, index) if keys else None)
    try:
        for _ in replay.read(connection, mapper):
            pass
    except (EventUnreadable, StoreUnusable) as error:
        return error.message
    return ""


def _planned(
    database: Path, checked: Checked, sequence_floor: int | None, kept: Sequence[Anchor], unreadable: str
) -> Plan:
    present = replacing.look_at(database)
    now = datetime.now(UTC)
    with backup.reading(checked.file) as connection:
        there = _Log.read(connection)
    readable = present is not None and not present.damage
    here = _read_what_is_there(database) if readable else None
    logs = [there, here] if here else [there]
    earlier = tuple(dict.fromkeys(name for log in logs for name in log.unseen))
    return Plan(
        backup=checked,
        epoch=max(log.epoch for log in logs) + 1,
        sequence_floor=max(_floor(database, sequence_floor, here), *(log.highest for log in logs)),
        restored_at=now,
        present=present,
        replaced=_free_name(database, now) if present else None,
        earlier=earlier,
        losses=_losses(database, checked.file, earlier, compared=readable),
        unreadable=unreadable,
        last_anchor=max(kept, key=lambda anchor: anchor.position, default=None),
    )


def _losses(database: Path, file: Path, earlier: Sequence[str], *, compared: bool) -> Losses | None:
    """What `earlier` restores have lost and this one loses; not all of it where the database can't be `compared`."""
    there = [kept for kept in map(database.with_name, earlier) if kept.exists()]
    if not compared and not there:
        return None
    found = Losses(complete=compared and len(there) == len(earlier))
    for kept in there:
        add_missing(found, kept, file, in_backup=True)
    if compared:
        add_missing(found, database, file, in_backup=True, exactly=True)
    return found


def _free_name(database: Path, now: datetime) -> str:
    name = f"{database.name}.replaced-{now:%Y%m%dT%H%M%SZ}"
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(free for free in names if not database.with_name(free).exists())


def _remedy(checked: Checked) -> str:
    other = "take another backup (gateway backup list)"
    return other if checked.damage else f"{other}; --despite-chain restores it all the same"


@dataclass(frozen=True, slots=True)
class _Log:
    """What a restore has to know of a log: its epoch, the highest `sequence`, the files nobody has looked at yet."""

    epoch: int
    highest: int
    unseen: tuple[str, ...]

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> _Log:
        return cls(projections.epochs.number(connection), _highest(connection), _unseen(connection))


def _highest(connection: sqlite3.Connection) -> int:
    """The highest `sequence` that a database knows of."""
    try:
        return projections.outbox.highest_sequence(connection)
    except sqlite3.DatabaseError:
        return 0


def _unseen(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The replaced databases of the restores since somebody last let the outbox go on.

    From the log itself, for its table may be behind: in a database that was restored and not opened yet. Each restore's
    event names all before it. Where the log is damaged, the table is better than nothing.
    """
    try:
        latest = selection.latest_of(connection, f"{Epoch.TOPIC}.*")
        if latest is None or latest[0] != Epoch.Restored.TOPIC:
            return ()
        values = json.loads(latest[1])
        return _names(values["lost"], values["replaced"])
    except (sqlite3.DatabaseError, ValueError, LookupError):
        with suppress(sqlite3.DatabaseError, ValueError):
            row = projections.epochs.present(connection)
            if row and not row.resumed_at:
                return _names(row.lost, row.replaced)
        return ()


def _names(lost: dict[str, Any], replaced: str | None) -> tuple[str, ...]:
    return (*lost.get(EARLIER, ()), *([replaced] if replaced else ()))


def _read_what_is_there(database: Path) -> _Log | None:
    """The database that goes may be further: in epochs, so that no number comes twice, and in sequences."""
    try:
        with closing(connect(database)) as connection:
            return _Log.read(connection)
    except sqlite3.DatabaseError:
        return None


def _floor(database: Path, told: int | None, here: _Log | None) -> int:
    mark = SequenceMark(database)
    if here == _Log(1, 0, ()) and not mark.path.exists():
        return told or 0  # there never was a status event, and no service that would have begun the mark
    try:
        return max(mark.read(), told or 0)
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
    """What the replaced databases hold and the log, as it is now, still lacks: what was done again is no longer in it.

    Those of earlier restores count too, when nobody had let the outbox go on in between. Raises `NotFound` when none of
    these files is there.
    """
    names = _names(epoch.lost, epoch.replaced)
    there = [kept for kept in map(database.with_name, names) if kept.exists()]
    if not there:
        raise NotFound("the replaced database is not there, so what was lost can't be listed", field="replaced")
    found = Losses(complete=len(there) == len(names))
    for kept in there:
        add_missing(found, kept, database, in_backup=False)
    return found
