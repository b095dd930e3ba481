"""Files that verbs write and read, line by line: whole or not at all, compressed when the name ends in `.gz`."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, cast

from gateway.errors import InvalidValue

STANDARD = Path("-")
"""Stands for stdin or stdout."""


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file that is not there yet: under another name first, so that half of one is never taken for a whole.

    It may hold names: only its owner reads it. Raises `InvalidValue` when that can't be.
    """
    if path == STANDARD:
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    if path.exists():
        raise InvalidValue(f"{path} is there already: name a new file", field="file")
    try:
        descriptor, aside = beside(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with _text(path, file) as text:
                    for line in lines:
                        text.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidValue(f"{path} can't be written: {error.strerror or error}", field="file") from error


def beside(path: Path) -> tuple[int, Path]:
    """A new file in the same folder to write first and rename then: its descriptor and its path.

    Only its owner reads it, and nobody can guess its name: a file or a link that was put there before would be written
    into, and stay its maker's to read. Raises `OSError`.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    return descriptor, Path(name)


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file, with their ends. Raises `InvalidValue` when it can't be read as UTF-8 text."""
    try:
        if path == STANDARD:
            yield iter(sys.stdin)
            return
        with path.open("rb") as file, _text(path, file) as text:
            yield iter(text)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or no UTF-8 text"
        raise InvalidValue(f"{path} can't be read: {reason}", field="file") from error


@contextmanager
def _text(path: Path, file: IO[bytes]) -> Iterator[TextIOWrapper]:
    """The file as text; it stays open when this is over."""
    raw = gzip.GzipFile(fileobj=file, mode="wb" if file.writable() else "rb") if path.suffix == ".gz" else file
    text = TextIOWrapper(cast("IO[bytes]", raw), encoding="utf-8", newline="\n")
    try:
        yield text
    finally:
        text.detach()
        if raw is not file:
            raw.close()
