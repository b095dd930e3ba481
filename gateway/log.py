"""Logging: one structured line per event, in JSON or for people.

Events are snake_case nouns with keys. Libraries that log by the standard library come out in the same form, and only
their warnings: what they say in detail may hold data sets.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import nullcontext, suppress
from functools import cached_property
from io import TextIOBase
from types import TracebackType
from typing import Any, TextIO

_LIBRARIES = ("websockets", "pynetdicom", "pydicom", "uvicorn", "asyncio", "eventsourcing", "httpx", "httpcore")

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING}


def get_logger(name: str) -> Any:  # noqa: ANN401  structlog's loggers have no type of their own
    """A module's logger: `log.info("action_answered", accession_number=…)`.

    structlog, which makes the lines, takes as long to import as a short verb may take: it comes with the first line.
    """
    return _Logger(name)


class _Logger:
    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, event: str, **values: Any) -> None:  # noqa: ANN401  whatever a line tells
        """As of structlog."""
        self._write("info", event, values)

    def warning(self, event: str, **values: Any) -> None:  # noqa: ANN401  the same
        """As of structlog."""
        self._write("warning", event, values)

    def _write(self, level: str, event: str, values: dict[str, Any]) -> None:
        """Past the standard library where our handler is the only one.

        Each query and each MPPS message writes such a line: a record of the standard library would be a fifth of what a
        query takes.
        """
        handlers = logging.getLogger().handlers
        if len(handlers) != 1 or not isinstance(handlers[0], _OurHandler):
            getattr(self._of_structlog, level)(event, **values)
        elif logging.getLogger(self._name).isEnabledFor(_LEVELS[level]):
            handlers[0].write(level, {**values, "event": event})

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401  structlog's loggers have no type of their own
        return getattr(self._of_structlog, method)

    @cached_property
    def _of_structlog(self) -> Any:  # noqa: ANN401  the same
        import structlog

        structlog.configure(
            processors=[*_common(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )
        return structlog.get_logger(self._name)


def configure(log_format: str, stream: TextIOBase | None = None) -> None:
    """Send log lines to stderr, or to another stream: `json`, `console`, or `auto` (when a terminal is watching)."""
    written = stream or sys.stderr
    console = log_format == "console" or (log_format == "auto" and written.isatty())
    handler = _OurHandler(_Lines(console=console), written)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    """Our form of a line, whoever logs it."""

    def __init__(self, *, console: bool) -> None:
        super().__init__()
        self._console = console

    def format(self, record: logging.LogRecord) -> str:
        return self._form.format(record)

    def line(self, level: str, event: MutableMapping[str, Any]) -> str:
        """The line of an event of ours."""
        for process in self._processors:
            event = process(None, level, event)
        return str(event)

    @cached_property
    def _processors(self) -> list[Any]:
        return [*_common(), _without_exception_text, self._renderer]

    @cached_property
    def _renderer(self) -> Any:  # noqa: ANN401  one of two classes of structlog's
        import structlog

        if self._console:
            return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        return structlog.processors.JSONRenderer(serializer=_json)

    @cached_property
    def _form(self) -> logging.Formatter:
        import structlog

        without = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_common(), structlog.stdlib.ExtraAdder()],
            processors=[without, _without_exception_text, self._renderer],
        )


Sink = Callable[[dict[str, Any]], None]
"""Takes a line as a dictionary."""

_sinks: list[Sink] = []
_NOT_FORWARDED = ("azure.", "opentelemetry.", "urllib3.")
"""Loggers of what carries the lines away: their lines would bring forth others."""


def forward_warnings(sink: Sink) -> Callable[[], None]:
    """Give each line from warning on to `sink` too, which must not block; returns what ends it."""
    _sinks.append(sink)
    return lambda: _sinks.remove(sink)


class _OurHandler(logging.StreamHandler[TextIO | TextIOBase]):
    """Writes what libraries log, and what we do."""

    def __init__(self, lines: _Lines, stream: TextIO | TextIOBase) -> None:
        super().__init__(stream)
        self.setFormatter(lines)
        self._lines = lines

    def write(self, level: str, event: MutableMapping[str, Any]) -> None:
        """Write an event of ours. As with the standard library, a log that can't be written stops nobody."""
        if _sinks and level != "info":
            _forward(_Lines(console=False).line(level, {**event}))
        line = self._lines.line(level, event) + self.terminator
        with self.lock or nullcontext(), suppress(OSError, ValueError):
            self.stream.write(line)
            self.stream.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Of the standard library; a line that is forwarded is made anew, for it is changed by being made."""
        if _sinks and record.levelno >= logging.WARNING and not record.name.startswith(_NOT_FORWARDED):
            _forward(_Lines(console=False).format(copy.copy(record)))
        super().emit(record)


def _forward(line: str) -> None:
    told: dict[str, Any] = json.loads(line)
    for sink in _sinks:
        sink(told)


_encode = json.JSONEncoder(default=repr).encode


def _json(event: MutableMapping[str, Any], **_: Any) -> str:  # noqa: ANN401  structlog's own way to encode
    """By one encoder: `json.dumps` would make one for each line."""
    return _encode(event)


def _common() -> list[Any]:
    """What our lines and those of libraries go through alike."""
    import structlog

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def tell_what_nobody_catches() -> None:
    """Let exceptions that end a thread or the process be log lines too; the interpreter would print their text."""
    log = get_logger(__name__)

    def in_thread(ended: threading.ExceptHookArgs) -> None:
        name = ended.thread.name if ended.thread else None
        log.error("thread_failed", thread=name, exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback))

    def in_process(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        log.error("process_failed", exc_info=(kind, error, traceback))

    def in_finaliser(ended: sys.UnraisableHookArgs) -> None:
        log.error("finaliser_failed", exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback))

    threading.excepthook = in_thread
    sys.excepthook = in_process
    sys.unraisablehook = in_finaliser


def _without_exception_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401  structlog's signature
    """An exception is told by its type and its places: its text may hold what somebody sent."""
    information = event.pop("exc_info", None)
    if information is True:
        information = sys.exc_info()
    if isinstance(information, BaseException):
        information = (type(information), information, information.__traceback__)
    if isinstance(information, tuple) and information[0] is not None:
        event["event"] = str(event.get("event")).split("\n", 1)[0]  # asyncio repeats the exception in further lines
        event["exception"] = information[0].__name__
        event["at"] = places(information[2])
    return event


def places(traceback: Any) -> list[str]:  # noqa: ANN401  a traceback or None
    """The innermost places of a traceback, outermost first: file, line, function."""
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-6:]
