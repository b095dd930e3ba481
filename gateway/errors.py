"""Errors, divided first by whose fault they are and then by what the asker can do.

    GatewayError                 has a stable code, what failed, and what to do
    ├── Refusal                  the asker's fault: this request can't be done as asked; the answer is final
    │   ├── InvalidValue         a value breaks a rule (code `validation`)
    │   ├── NotFound             nothing by that key (`not_found`)
    │   ├── AccessionConflict    the accession number is taken by something else (`accession_conflict`)
    │   ├── ActionIdConflict     the action_id was used for other content (`action_id_conflict`)
    │   ├── OtherPatient         a performed step and an item are of different patients (`other_patient`)
    │   └── IllegalTransition    the life of the procedure step does not allow it (`illegal_transition`)
    ├── EventUnreadable          the host's, or somebody's: a stored event is not as it was written
    ├── StoreUnusable            ours or the host's: the database can't be opened or is not what it should be
    │   └── KeyLost              somebody's: the key file does not fit the database (`key_lost`)
    ├── BackupUnusable           ours or the host's: a backup can't be taken, or a file is not a backup to rely on
    ├── OutcomeUnknown           the host's: a save failed in a way that leaves open whether it happened; ask again
    │   ├── DiskFull             the host's: there is no room for it; ask again when there is
    │   └── KeysUnusable         the host's: the key file can't be written, so nothing was saved; ask again
    ├── Contention               too many writers on one item at once; ask again
    ├── AnchorsUnusable          the operator's or the host's: the anchors file can't be read or written
    ├── PortUnusable             the operator's: another program holds the port
    ├── CertificateUnusable      the operator's: a file for TLS is missing, broken, or does not fit the others
    └── SettingsInvalid          the operator's: a setting can't be used

No message carries a name, an NHS number, a birth date, a token or a key.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Something failed; `code` is stable, `remedy` says what a person should do."""

    code = "internal"
    retryable = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} → {self.remedy}" if self.remedy else self.message


class Refusal(GatewayError):
    """The request can't be done as asked, and asking again gives the same answer.

    `field` names the offending value in the domain's words (`accession_number`, `patient_id` …), or is None.
    """

    code = "refused"

    def __init__(self, message: str, *, field: str | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.field = field


class InvalidValue(Refusal, ValueError):
    """A value breaks a rule of DICOM or of the contract."""

    code = "validation"


class NotFound(Refusal):
    """There is nothing by that key."""

    code = "not_found"


class AccessionConflict(Refusal):
    """The accession number belongs to another patient, other content, or an item that is over."""

    code = "accession_conflict"


class ActionIdConflict(Refusal):
    """The action_id was used before for other content."""

    code = "action_id_conflict"


class OtherPatient(Refusal):
    """A performed step is to be linked to an item of another patient."""

    code = "other_patient"


class IllegalTransition(Refusal):
    """The table in `gateway.domain.lifecycle` has no such step."""

    code = "illegal_transition"


class StoreUnusable(GatewayError):
    """The database can't be opened, or is not what it should be."""

    code = "store_unusable"


class KeyLost(StoreUnusable):
    """Something was sealed with a key that the key file does not have, and did not destroy."""

    code = "key_lost"


class AnchorsUnusable(GatewayError):
    """The anchors file can't be read or written."""

    code = "anchors_unusable"


class EventUnreadable(GatewayError):
    """A stored event is not as it was written."""

    code = "event_unreadable"


class BackupUnusable(GatewayError):
    """A backup can't be taken, or a file is not a backup that may take the database's place."""

    code = "backup_unusable"


class OutcomeUnknown(GatewayError):
    """A save ended in an I/O error: it may or may not have happened. The receipt answers the retry."""

    code = "internal"
    retryable = True


class DiskFull(OutcomeUnknown):
    """A save found no room on the disk, and did not happen."""


class KeysUnusable(OutcomeUnknown):
    """The key file can't be written: what needed a new key was not saved."""


class Contention(GatewayError):
    """The same item was changed by others on every try."""

    code = "internal"
    retryable = True


class RebuildRuns(Contention):
    """Another rebuild of this database is under way."""

    code = "rebuild_runs"


class TooMuchAsked(GatewayError):
    """Too many ask at once what takes long to find."""

    code = "too_much_asked"
    retryable = True


class PortUnusable(GatewayError):
    """A port can't be listened at."""

    code = "port_unusable"


class CertificateUnusable(GatewayError):
    """A file with a certificate, a key or an authority for TLS can't be used."""

    code = "certificate_unusable"


class SettingsInvalid(GatewayError):
    """A setting in the environment or `.env` can't be used."""

    code = "settings_invalid"
