"""The DICOM conformance statement (PS3.2): the text of `conformance.md`, with the tables that the code decides by.

`docs/conformance-statement.md` is what `statement()` returns; a test fails when it is stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from string import Template

from gateway import __version__
from gateway.dicom import association, character_sets, keys, status, step_attributes
from gateway.dicom.association import SOP_CLASSES
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES, tag_name
from gateway.dicom.deadlines import MESSAGE_STALLS
from gateway.dicom.keys import Matching
from gateway.domain.performed_procedure_step import WRONG_WORKLIST_ENTRY
from gateway.settings import Settings

_SYNTAX_NAMES = {
    IMPLICIT_VR_LITTLE_ENDIAN: "Implicit VR Little Endian",
    EXPLICIT_VR_LITTLE_ENDIAN: "Explicit VR Little Endian",
}

_SETTINGS = (
    "gateway_ae_title",
    "gateway_dicom_host",
    "gateway_dicom_port",
    "gateway_dicom_tls_port",
    "gateway_dicom_tls_cert",
    "gateway_dicom_tls_key",
    "gateway_dicom_tls_ca",
    "gateway_dicom_engine",
    "gateway_dicom_max_associations",
    "gateway_dicom_max_associations_per_address",
    "gateway_dicom_idle_seconds",
    "gateway_accept_any_called_ae",
    "gateway_modalities_file",
    "gateway_time_zone",
    "gateway_listed_statuses",
    "gateway_test_ae_titles",
    "gateway_report_wrong_entry",
)
"""What of the configuration shows on the wire."""


def statement() -> str:
    """The whole statement as Markdown."""
    text = files("gateway.dicom").joinpath("conformance.md").read_text(encoding="utf-8")
    return Template(text).substitute(
        version=__version__,
        services=_table(
            ("SOP class", "UID", "operations", "SCU", "SCP"),
            [(service.name, service.uid, service.operations, "no", "yes") for service in SOP_CLASSES],
        ),
        association=_association(),
        rejections=_rejections(),
        contexts=_contexts(),
        root_keys=_keys(keys.ROOT.values(), ""),
        step_keys=_keys(keys.STEP.values(), "> "),
        listed_statuses=", ".join(Settings.model_fields["gateway_listed_statuses"].get_default()),
        find_statuses=_statuses(status.C_FIND),
        step_attributes=_table(
            ("attribute", "tag", "N-CREATE", "N-SET", "final state"), _attribute_rows(step_attributes.TABLE, "")
        ),
        not_allowed=step_attributes.NOT_ALLOWED,
        wrong_entry=WRONG_WORKLIST_ENTRY,
        set_statuses=_statuses(status.N_CREATE_AND_N_SET),
        get_statuses=_statuses(status.N_GET),
        registrations=_listed(character_sets.REGISTRATIONS),
        without_extensions=_listed(character_sets.WITHOUT_EXTENSIONS),
        configuration=_configuration(),
    )


def _association() -> str:
    facts = [
        ("Application context", "1.2.840.10008.3.1.1.1"),
        ("Implementation Class UID", association.IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", association.IMPLEMENTATION_VERSION_NAME),
        ("Maximum PDU size announced", f"{association.ANNOUNCED_PDU_LENGTH:,} bytes"),
        ("Largest PDU borne", f"{association.MAXIMUM_PDU_LENGTH:,} bytes; then the connection is closed"),
        ("Largest message borne", f"{association.MAXIMUM_MESSAGE_LENGTH:,} bytes; then the connection is closed"),
        ("Associations at once", f"{association.MAXIMUM_ASSOCIATIONS} (`GATEWAY_DICOM_MAX_ASSOCIATIONS`)"),
        (
            "Associations at once of one address",
            f"{association.MAXIMUM_ASSOCIATIONS_PER_ADDRESS} (`GATEWAY_DICOM_MAX_ASSOCIATIONS_PER_ADDRESS`)",
        ),
        ("Asynchronous operations", "none: one operation at a time"),
        ("Extended negotiation", "none; an item that is sent is not answered"),
        ("Roles", "SCP only; a role selection is not answered"),
        ("User identity", "not looked at, nor answered"),
        ("Time for a TLS handshake", f"{association.ACSE_SECONDS:g} s"),
        ("Time to ask for an association (ARTIM)", f"{association.ACSE_SECONDS:g} s"),
        ("Longest time for one PDU", f"{association.STALL_SECONDS:g} s"),
        ("Longest time for one message", f"{MESSAGE_STALLS * association.STALL_SECONDS:g} s"),
        ("Longest time that answers wait to be read", f"{association.STALL_SECONDS:g} s"),
        ("Longest idle association", f"{association.IDLE_SECONDS:g} s (`GATEWAY_DICOM_IDLE_SECONDS`)"),
    ]
    return _table(("what", "value"), facts)


def _rejections() -> str:
    rows = [
        ("the protocol version lacks bit 0", "1", "2", "2"),
        ("the application context name is not that of DICOM", "1", "1", "2"),
        ("the called AE title is not ours (`GATEWAY_AE_TITLE`), unless any is accepted", "1", "1", "7"),
        ("the calling AE title is not on the list of modalities, or not from this address", "1", "1", "3"),
        ("the profile of the calling AE title says that it is not admitted", "1", "1", "3"),
        ("the application context is not DICOM's", "1", "1", "2"),
        ("the calling AE title is empty", "1", "1", "3"),
        ("bit 0 of the protocol version is not set", "1", "2", "2"),
        ("too many associations are open, in all or from this address", "2", "3", "2"),
    ]
    return _table(("rejected when", "result", "source", "reason"), rows)


def _contexts() -> str:
    rows = [
        (service.name, service.uid, _SYNTAX_NAMES[syntax], syntax)
        for service in SOP_CLASSES
        for syntax in TRANSFER_SYNTAXES
    ]
    return _table(("abstract syntax", "UID", "transfer syntax", "UID"), rows)


def _keys(attributes: Iterable[keys.Attribute], prefix: str) -> str:
    rows = [
        (
            f"{prefix}{attribute.keyword}",
            tag_name(attribute.tag),
            attribute.vr,
            attribute.matching_type,
            attribute.returned,
            _matching(attribute),
        )
        for attribute in attributes
    ]
    return _table(("attribute", "tag", "VR", "match", "return", "how it is matched"), rows)


def _matching(attribute: keys.Attribute) -> str:
    if attribute.tag == keys.SCHEDULED_PROCEDURE_STEP_SEQUENCE:
        return "sequence: by the keys of its item"
    if attribute.matching is not Matching.NONE:
        return str(attribute.matching.value)
    held = attribute.values or attribute.tag in (*keys.CODE_SEQUENCES, keys.TIMEZONE_OFFSET_FROM_UTC)
    return "not matched" if held else "not matched; returned at zero length"


def _attribute_rows(rows: Iterable[step_attributes.Attribute], prefix: str) -> Iterator[Sequence[str]]:
    for row in rows:
        yield f"{prefix}{row.keyword}", tag_name(row.tag), row.create, row.set, row.final
        yield from _attribute_rows(row.items, f"{prefix}> ")


def _statuses(rows: Iterable[status.Meaning]) -> str:
    lines = [(f"0x{row.status:04X}", row.meaning, row.when, row.fields or "–") for row in rows]
    return _table(("status", "meaning", "when", "comes with"), lines)


def _configuration() -> str:
    fields = [(name.upper(), Settings.model_fields[name]) for name in _SETTINGS]
    rows = [(f"`{name}`", _default(field.get_default()), field.description or "") for name, field in fields]
    return _table(("setting", "default", "meaning"), rows)


def _default(value: object) -> str:
    if value is None:
        return "–"
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
