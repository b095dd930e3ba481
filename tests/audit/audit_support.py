"""Histories to take elsewhere, and databases to compare row by row."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway.application import PROJECTIONS, Gateway
from gateway.audit import export
from gateway.audit.event_log import Wanted
from gateway.audit.replay import Replayed, replay

TABLES = [table for projection in PROJECTIONS for table in projection.TABLES]


def exported(gateway: Gateway, *, redact: bool = False, **wanted: Any) -> list[str]:
    return list(export.lines(gateway, Wanted(**wanted), redact=redact))


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines[1:]]


def header(lines: list[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(lines[0])
    return told


def replayed(lines: list[str], tmp_path: Path, name: str = "elsewhere") -> Replayed:
    return replay(lines, tmp_path / name)


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return {table: rows(path, table) for table in TABLES}


def without_persons(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every projection's rows, but for the columns that a redaction changes."""
    changed = {
        "patient_id",
        "patient_name",
        "patient_birth_date",
        "performing_physician",
        "details",
        "answer",
        "operator",
    }
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        every = {table: map(dict, connection.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES}
    return {table: sorted((_but(row, changed) for row in found), key=repr) for table, found in every.items()}


def _but(row: dict[str, Any], changed: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in changed and not name.startswith("folded_")}


def on_days(lines: list[str], *days: str) -> list[str]:
    """An export whose events happened on these days, a few on each: the log's own time can't be set back."""
    told = events(lines)
    share = -(-len(told) // len(days))
    for number, event in enumerate(told):
        event["committed_at"] = f"{days[number // share]}T12:00:00.{number:06d}+00:00"
    return [lines[0], *map(json.dumps, told)]
