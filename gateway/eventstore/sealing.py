"""Which key an event is sealed with, and sealing itself: AES-256-GCM, bound to the event's place in the log.

The rule (issue: a key per patient): an event that names a patient has that patient's key; one that names none has the
key of its stream, or of the item it is about. What nobody has confirmed yet (an unmatched performed step, a message
without a readable participant) has a key of its own; `projections.patient_keys` notes whose it is, then and later.

Nothing is sealed until `GATEWAY_SEALING` is on. What was sealed is read ever after, whether it is on or off, and a
database that holds sealed events knows which key file is its own.
"""

from __future__ import annotations

import base64
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from gateway.errors import KeyLost, KeysUnusable, StoreUnusable
from gateway.eventstore.keys import KeyFile

_NONCE_BYTES = 12
_MOST_REMEMBERED = 20_000

SCHEMA = ("CREATE TABLE IF NOT EXISTS key_file (id INTEGER PRIMARY KEY CHECK (id = 1), file_id TEXT NOT NULL)",)
"""One row once sealing was switched on: which key file belongs to this database."""


class Seal(NamedTuple):
    """Under which key an event is kept; `patient` is the HMAC of the Patient ID that it names, or ""."""

    key_id: str
    patient: str = ""
    is_apart: bool = False
    is_erased: bool = False


class KeyIndex(Protocol):
    """Which key is whose, as a projection keeps it."""

    def key_of_patient(self, connection: sqlite3.Connection, patient: str) -> str | None:
        """A key of the patient with this HMAC."""

    def key_of_stream(self, connection: sqlite3.Connection, stream: str) -> str | None:
        """The latest key of a stream (32 hexadecimal digits)."""


Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
Writing = Callable[[], AbstractContextManager[sqlite3.Cursor]]


def default_path(database: Path) -> Path:
    """Where the key file is unless a setting says otherwise: beside the database."""
    return database.with_name(database.name + ".keys")


def keys_of(connection: sqlite3.Connection, path: Path) -> KeyFile | None:
    """The key file at `path`, if this database needs one. Raises `KeyLost` when it is not there, or another one."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'key_file'").fetchone():
        return None
    row = connection.execute("SELECT file_id FROM key_file").fetchone()
    return _own(path, row[0]) if row else None


def key_ids(connection: sqlite3.Connection) -> set[str]:
    """The keys that the events of a database are sealed with; those of an import that were erased there are none."""
    rows = connection.execute(
        "SELECT DISTINCT json_extract(state, '$.envelope.key_id') FROM"
        " (SELECT CAST(state AS TEXT) AS state FROM stored_events)"
        " WHERE json_valid(state) AND json_extract(state, '$.envelope.erased') IS NULL"
    )
    return {key_id for (key_id,) in rows if isinstance(key_id, str)}


def _own(path: Path, file_id: str) -> KeyFile:
    if not path.exists():
        raise KeyLost(f"the key file {path} is missing, and this database holds what was sealed", remedy=_BACK)
    keys = KeyFile(path)
    if keys.file_id != file_id:
        keys.close()
        raise KeyLost(f"the key file {path} belongs to another database", remedy=_BACK)
    return keys


class Sealing:
    """Chooses keys and uses them. Shared by all threads of one application."""

    def __init__(self, path: Path, index: KeyIndex, *, switched_on: bool) -> None:
        self.path = path
        self.switched_on = switched_on
        self.failure: str | None = None
        """Why the last save could not get a key, until one can be had again."""
        self._index = index
        self._reading: Reading | None = None
        self._keys: KeyFile | None = None
        self._opening = threading.Lock()
        self._key_of: dict[str, str] = {}

    @classmethod
    def for_reading(cls, path: Path, reading: Reading) -> Sealing:
        """What opens what was sealed in this database, and seals nothing."""
        sealing = cls(path, cast("KeyIndex", None), switched_on=False)
        sealing._reading = reading
        return sealing

    @classmethod
    def with_keys(cls, keys: KeyFile, index: KeyIndex) -> Sealing:
        """Reads what was sealed with these keys, and seals nothing."""
        sealing = cls(keys.path, index, switched_on=False)
        sealing._keys = keys
        return sealing

    # --- which key file

    def begin(self, reading: Reading, writing: Writing) -> bool:
        """Where the database is opened: returns whether anything in it is or will be sealed.

        Raises `KeyLost` when the database belongs with a key file that is not there, or with another one.
        """
        self._reading = reading
        if self.keys is None and self.switched_on:
            with writing() as cursor:
                self._begin_file(cursor)
        return self._keys is not None

    def _begin_file(self, cursor: sqlite3.Cursor) -> None:
        """The key file, made now unless another process has just done so."""
        row = cursor.execute("SELECT file_id FROM key_file").fetchone()
        if row is not None:
            self._keys = _own(self.path, row[0])
        else:
            self._keys = KeyFile(self.path, create=True)
            cursor.execute("INSERT INTO key_file VALUES (1, ?)", (self._keys.file_id,))

    @property
    def keys(self) -> KeyFile | None:
        """The key file, when this database has one; another process may have begun it."""
        if self._keys is None and self._reading is not None:
            with self._opening, self._reading() as connection:
                row = connection.execute("SELECT file_id FROM key_file").fetchone()
                if self._keys is None and row is not None:
                    self._keys = _own(self.path, row[0])
        return self._keys

    def borrow(self) -> None:
        """Open what another database sealed, with its key file at `path`; nothing is sealed here, nor noted of it.

        Raises `StoreUnusable` when there is no such file.
        """
        if self._keys is None:
            self._keys = KeyFile(self.path)

    @property
    def is_used(self) -> bool:
        """Whether anything is or will be sealed here."""
        return self.keys is not None

    def make_ready(self) -> None:
        """Make keys ahead, so that the first saves need not wait for them. Raises `KeysUnusable`."""
        if self.switched_on and self.keys is not None:
            self.keys.make_ready()

    def cut_log(self) -> None:
        """Leave nothing of a destroyed key beside the key file. Raises `KeysUnusable`."""
        if self.keys is not None:
            self.keys.cut_log()

    def check(self) -> None:
        """Raise `StoreUnusable` when the key file is not there any more, or no key can be had since a save failed."""
        if self._keys is None:
            return
        try:
            self._keys.require_file(now=True)
            self._keys.forget_destroyed()
            if self.failure:
                self._keys.make_ready()
        except KeysUnusable as error:
            raise StoreUnusable(f"saves fail: {error.message}", remedy=error.remedy) from error
        self.failure = None

    def close(self) -> None:
        """Let go of the key file."""
        if self._keys is not None:
            self._keys.close()

    # --- which key

    def assign(self, events: Sequence[Any]) -> None:
        """Choose the key of each event of one save, and note it on the event. Raises `KeysUnusable`."""
        if not self.switched_on:
            return
        try:
            chosen: dict[UUID, str] = {}
            for event in events:
                if any(getattr(event, name) for name in event.IDENTIFYING):
                    self._required().require_file()
                    seal = self._seal(event, chosen)
                    chosen[event.originator_id] = seal.key_id
                    object.__setattr__(event, "seal", seal)
        except KeysUnusable as error:
            self.failure = error.message
            raise
        self.failure = None

    def _seal(self, event: Any, chosen: dict[UUID, str]) -> Seal:  # noqa: ANN401  any of our events
        keys = self._required()
        subject = event.subject()
        patient = keys.pseudonym(subject) if subject else ""
        if event.is_apart():
            return Seal(keys.fresh(), patient, is_apart=True)
        if patient:
            return Seal(self._patients(patient), patient)
        known = {chosen.get(stream) or self._streams(stream) for stream in event.relatives()} - {None}
        if len(known) == 1:
            return Seal(str(known.pop()))
        return Seal(keys.fresh(), is_apart=True)

    def _patients(self, patient: str) -> str:
        key_id = self._key_of.get(patient)
        if key_id is None:
            with self._looking() as connection:
                key_id = self._index.key_of_patient(connection, patient) or self._required().fresh()
            if len(self._key_of) >= _MOST_REMEMBERED:
                self._key_of.clear()
            self._key_of[patient] = key_id
        return key_id

    def _streams(self, stream: UUID) -> str | None:
        with self._looking() as connection:
            return self._index.key_of_stream(connection, stream.hex)

    def _looking(self) -> AbstractContextManager[sqlite3.Connection]:
        if self._reading is None:
            raise RuntimeError("begin() comes first")
        return self._reading()

    def forget(self) -> None:
        """Which key is whose is looked up again: one was destroyed meanwhile."""
        self._key_of.clear()

    def _required(self) -> KeyFile:
        keys = self.keys
        if keys is None:
            raise KeyLost("something is sealed, but this database knows of no key file", remedy=_BACK)
        return keys

    # --- sealing

    def fresh(self) -> str:
        """A key that nothing was sealed with. Raises `KeysUnusable`."""
        self._required().require_file()
        return self._required().fresh()

    def seal(self, key_id: str, plain: bytes, place: str) -> str:
        """The text that is stored. `place` binds it: at another one it can't be opened."""
        cipher = self._required().cipher(key_id)
        if cipher is None:
            raise KeyErasedMeanwhile("a key was destroyed meanwhile")
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + cipher.encrypt(nonce, plain, place.encode())).decode()

    def unseal(self, key_id: str, sealed: str, place: str) -> bytes | None:
        """What was sealed; None when its key was destroyed. Raises `KeyLost`, or what the cipher raises."""
        cipher = self._required().cipher(key_id)
        if cipher is None:
            return None
        raw = base64.b64decode(sealed)
        return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode())

    def is_destroyed(self, key_id: str) -> bool:
        """Whether the key was destroyed. Raises `KeyLost`."""
        return self._required().cipher(key_id) is None

    def pseudonym(self, patient_id: str) -> str:
        """What stands for this Patient ID in the index of keys."""
        return self._required().pseudonym(patient_id)


class KeyErasedMeanwhile(IntegrityError):
    """The key chosen for this save was destroyed meanwhile: choose again."""


_BACK = (
    "put the key file of this database back from its own backup, or say with GATEWAY_KEYS_PATH where it is; "
    "this is no erasure: what was erased is known as such"
)
