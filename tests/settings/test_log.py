"""The log: one structured line per event, from us and from libraries alike, and of an exception never its text."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog.contextvars

from gateway import log

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is written; the process's log is put back after that."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    """The lines of a log in JSON."""
    log.configure("json")
    logging.getLogger().handlers[0].setStream(stream)  # type: ignore[attr-defined]
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_its_keys_its_level_and_utc(lines: Lines) -> None:
    log.get_logger("a").info("action_answered", accession_number="ACC001", note="two\nlines é")
    [line] = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "action_answered", "level": "info", "accession_number": "ACC001", "note": "two\nlines é"}


def test_what_is_below_the_level_of_the_log_is_not_written(lines: Lines) -> None:
    logging.getLogger().setLevel(logging.ERROR)
    log.get_logger("a").info("action_answered")
    log.get_logger("a").warning("action_late")
    log.get_logger("a").error("action_lost")
    assert [line["event"] for line in lines()] == ["action_lost"]


@pytest.mark.parametrize("library", ["websockets", "pynetdicom", "pydicom", "uvicorn", "asyncio", "eventsourcing"])
def test_of_a_library_only_warnings_are_written_in_the_same_form(lines: Lines, library: str) -> None:
    logger = logging.getLogger(f"{library}.part" if library != "asyncio" else library)
    logger.info("PatientName SMITH^JANE")
    logger.warning("a warning", extra={"code": "x"})
    [line] = [line for line in lines() if line["event"] == "a warning"]
    assert (line["level"], line["code"], len(lines())) == ("warning", "x", 1)


def failing() -> None:
    raise ValueError("SMITH^JANE")


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "a library's"])
def test_an_exception_is_told_by_its_type_and_its_places_and_never_by_its_text(lines: Lines, ours: bool) -> None:
    logger: Any = log.get_logger("a") if ours else logging.getLogger("websockets.server")
    try:
        failing()
    except ValueError:
        logger.exception("it_failed")
    [line] = lines()
    assert (line["event"], line["level"], line["exception"]) == ("it_failed", "error", "ValueError")
    assert line["at"][-1].endswith(" failing")
    assert "SMITH" not in repr(line)


def test_so_is_one_that_a_line_of_information_tells(lines: Lines) -> None:
    log.get_logger("a").info("it_failed", exc_info=ValueError("SMITH^JANE"))
    [line] = lines()
    assert line["exception"] == "ValueError"
    assert "SMITH" not in repr(line)


def test_a_log_that_cannot_be_written_stops_nobody(lines: Lines, stream: io.StringIO) -> None:
    stream.close()
    log.get_logger("a").info("action_answered")


def test_so_is_one_that_nobody_waited_for(lines: Lines) -> None:
    async def main() -> None:
        task = asyncio.create_task(later())
        await asyncio.wait([task])
        del task
        gc.collect()

    async def later() -> None:
        failing()

    asyncio.run(main())
    [line] = lines()
    assert (line["event"], line["exception"]) == ("Task exception was never retrieved", "ValueError")
    assert "SMITH" not in repr(line)


def test_for_people_it_is_text(stream: io.StringIO) -> None:
    log.configure("console")
    logging.getLogger().handlers[0].setStream(stream)  # type: ignore[attr-defined]
    log.get_logger("b").warning("relay_state", state="backing off")
    assert "relay_state" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


def test_auto_is_json_where_no_terminal_is_watching(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("auto")
    log.get_logger("c").info("x")
    assert json.loads(stream.getvalue())["event"] == "x"


def test_a_log_that_can_not_be_written_stops_nobody(lines: Lines) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    handler = logging.getLogger().handlers[0]
    kept = handler.stream  # type: ignore[attr-defined]  it is a StreamHandler
    handler.setStream(Full())  # type: ignore[attr-defined]
    log.get_logger("a").info("query_answered")
    handler.setStream(kept)  # type: ignore[attr-defined]
    log.get_logger("a").info("query_answered", answers=2)
    assert [line["answers"] for line in lines()] == [2]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("level", ["info", "warning"])
def test_a_line_that_takes_the_short_way_is_the_line_that_the_standard_library_writes(
    stream: io.StringIO, log_format: str, level: str
) -> None:
    log.configure(log_format)
    handler = logging.getLogger().handlers[0]
    handler.setStream(stream)  # type: ignore[attr-defined]  it is a StreamHandler
    structlog.contextvars.bind_contextvars(asker="é")
    getattr(log.get_logger("a"), level)("query_answered", answers=2, keys=["A"], note="two\nlines")
    logging.getLogger().addHandler(logging.NullHandler())
    getattr(log.get_logger("a"), level)("query_answered", answers=2, keys=["A"], note="two\nlines")
    structlog.contextvars.clear_contextvars()
    short, long = (re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+", "", line) for line in stream.getvalue().splitlines())
    assert (short, "query_answered" in short, "é" in short or "u00e9" in short) == (long, True, True)
