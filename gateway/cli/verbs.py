"""The verbs by their names: a verb's module bears its name, and is imported when it is called or all are listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

NAMES = (
    "serve",
    "doctor",
    "rehearse",
    "timeline",
    "erase",
    "conformance",
    "contract",
    "demo",
    "worklist",
    "steps",
    "audit",
    "outbox",
    "events",
    "backup",
    "projections",
    "relay",
    "modality",
    "config",
)
"""In the order in which the help lists them."""


class Verbs(TyperGroup):
    """The command `gateway`."""

    def __init__(self, *, commands: object = None, **attributes: Any) -> None:  # noqa: ANN401, ARG002  typer's own
        super().__init__(commands=_Loaded(), **attributes)  # type: ignore[arg-type]  # it is only looked up in


class _Loaded(Mapping[str, Any]):
    """Name → command, made from its module at its first look-up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  the type of typer's commands is not public
        if name not in NAMES:
            raise KeyError(name)
        if name not in self._made:
            alone = typer.Typer()
            import_module(f"gateway.cli.{name}").register(alone)
            self._made |= get_group(alone).commands
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)
