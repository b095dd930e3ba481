"""The rules that the house stands on, checked on its source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.application import PROJECTIONS
from gateway.domain.events import Stream
from tests.eventstore.everything import BASES, every_event
from tests.known_differences import KNOWN_DIFFERENCES

ROOT = Path(__file__).parents[2]
SOURCES = sorted(file for package in ("gateway", "projections", "relay") for file in (ROOT / package).rglob("*.py"))

by_path = pytest.mark.parametrize("source", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))

STATEMENT = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|REPLACE|PRAGMA|BEGIN|COMMIT|VACUUM)\s+[A-Za-z*(]"
)
WITH_SQL = (
    "projections/",
    "gateway/eventstore/",
    "gateway/delivery/attempts.py",
    "gateway/dicom/record.py",
    "gateway/audit/activities.py",
)


def tree_of(source: Path) -> ast.Module:
    return ast.parse(source.read_text(), filename=str(source))


def test_imports_go_one_way_only() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String constants and the beginnings of f-strings, docstrings left out."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def executes(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in ("execute", "executemany", "executescript"):
            yield called.lineno


@by_path
def test_sql_stands_in_the_module_of_its_table(source: Path) -> None:
    if str(source.relative_to(ROOT)).startswith(WITH_SQL):
        return
    tree = tree_of(source)
    found = [f"line {line}: {text[:60]!r}" for line, text in strings(tree) if STATEMENT.match(text)]
    assert found + [f"line {line}: execute()" for line in executes(tree)] == []


@by_path
def test_only_the_settings_read_the_environment(source: Path) -> None:
    if source == ROOT / "gateway" / "settings.py":
        return
    found = [
        f"line {node.lineno}"
        for node in ast.walk(tree_of(source))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    ]
    assert found == []


def test_each_event_and_each_stream_has_a_topic_of_its_own() -> None:
    """Not one that it inherits: a moved class must not change what is in the log."""
    streams = [stream for stream in Stream.__subclasses__() if stream.__module__.startswith("gateway.")]
    events = [
        found
        for stream in streams
        for name, found in vars(stream).items()
        if isinstance(found, type) and issubclass(found, Stream.Event) and name != "Snapshot"
    ]
    assert {event for event in events if event.__name__ not in BASES} == set(every_event())
    for event in every_event():
        stream, _, name = event.__qualname__.partition(".")
        assert f"{stream}.{name}" == event.TOPIC
    topics = [event.TOPIC for event in every_event()] + [stream.TOPIC for stream in streams]
    assert len(topics) == len(set(topics))


def test_each_projection_has_a_name_of_its_own_and_tables_with_a_primary_key() -> None:
    assert len({projection.NAME for projection in PROJECTIONS}) == len(PROJECTIONS)
    tables = [table for projection in PROJECTIONS for table in projection.TABLES]
    assert len(tables) == len(set(tables))
    for projection in PROJECTIONS:
        schema = " ".join(projection.SCHEMA)
        assert all(f"TABLE IF NOT EXISTS {table} " in schema for table in projection.TABLES)
        assert schema.count("PRIMARY KEY") == len(projection.TABLES)


@by_path
def test_every_module_says_what_it_is_for(source: Path) -> None:
    tree = tree_of(source)
    assert ast.get_docstring(tree) or not tree.body


def test_these_rules_look_at_the_whole_house() -> None:
    assert len(SOURCES) > 40


def test_each_known_difference_of_the_second_engine_is_a_test_that_there_is() -> None:
    for pattern in KNOWN_DIFFERENCES:
        file, _, name = pattern.partition("::")
        functions = {node.name for node in tree_of(ROOT / file).body if isinstance(node, ast.FunctionDef)}
        assert name.rstrip("*").partition("[")[0] in functions, pattern
