"""One event whole, for people and programs; what identifies somebody is masked unless it is to be revealed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from gateway.audit import event_log
from gateway.dicom import readable
from gateway.dicom.data_set import Undecodable
from gateway.domain.masking import HIDDEN, masked_id, masked_name, masked_value
from gateway.eventstore.selection import StoredRow


def told(row: StoredRow, state: dict[str, Any], *, reveal: bool) -> dict[str, Any]:
    """Its place, its metadata, what it says, and what of that identifies somebody; `state` is its open state."""
    metadata, said, identifying = event_log.parts_of(row.topic, state)
    transfer_syntax = str(state.get("transfer_syntax", ""))
    return {
        "position": row.position,
        "committed_at": row.committed_at,
        "kind": row.topic,
        "stream": row.stream,
        "version": row.version,
        "link": row.link.hex(),
        "metadata": metadata,
        "fields": {name: _readable(value, transfer_syntax, reveal=reveal) for name, value in said.items()},
        "identifying": {
            name: _readable(value if reveal else _masked(name, value), transfer_syntax, reveal=reveal)
            for name, value in identifying.items()
        },
        "erased": event_log.is_erased(state),
    }


def _masked(name: str, value: Any) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(value, dict):
        return value if _is_bytes(value) else {one: _masked(one, inner) for one, inner in value.items()}
    if value is None or value == "" or name == "patient_sex":
        return value
    if name == "patient_name":
        return masked_name(str(value))
    return masked_id(str(value)) if name == "patient_id" else HIDDEN


def _is_bytes(value: Any) -> bool:  # noqa: ANN401  any JSON value
    return isinstance(value, dict) and value.get("_type_") == "bytes_base64"


def _readable(value: Any, transfer_syntax: str, *, reveal: bool) -> Any:  # noqa: ANN401  any JSON value
    """A data set in the DICOM JSON model, an instant as text, all else as it is."""
    if not isinstance(value, dict):
        return value
    if _is_bytes(value):
        data = base64.b64decode(value["_data_"])
        try:
            return readable.model([(data, transfer_syntax)], None if reveal else masked_value) if data else {}
        except Undecodable as error:
            return f"{len(data)} bytes, no data set: {error.message}"
    if value.keys() == {"_type_", "_data_"}:
        return value["_data_"]
    shown = dict(value)
    if not reveal and shown.get("performing_physician"):
        shown["performing_physician"] = masked_name(str(shown["performing_physician"]))
    return shown


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Names and values, one a line: a data set by its attributes, what is nested by its path."""
    for name, value in values.items():
        if name == "attribute_list" and isinstance(value, dict):
            yield prefix + name, ""
            yield from ((f"  {attribute}", text) for attribute, text in readable.tree(value))
        elif isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield prefix + name, ", ".join(map(str, value))
        else:
            yield prefix + name, "" if value in (None, {}) else value
