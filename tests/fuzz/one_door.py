"""libFuzzer at one door, in a process of its own: it ends the process when it is done, or has found something."""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["gateway.dicom", "gateway.domain.values"], enable_loader_override=False):
    from tests.fuzz.doors import DOORS

from tests.fuzz.mutations import spoilt_session

_LONGEST = {"sessions": 4096, "command_sets": 512, "data_sets": 2048}
"""Bytes of one input."""

_HANGS_AFTER = 10
"""Seconds for one input; an honest one takes a hundredth of one, twenty times that under instrumentation."""

_MOST_MEMORY = 1024
"""MiB."""


def _spoilt(data: bytes, most: int, seed: int) -> bytes:
    dice = random.Random(seed)
    if dice.random() < 0.4:
        return bytes(atheris.Mutate(data, most))
    return spoilt_session(data, most, dice, lambda part, room: bytes(atheris.Mutate(part, max(1, room))))


def main(door: str, arguments: list[str]) -> None:
    """Fuzz; `arguments` are libFuzzer's."""
    limits = [f"-max_len={_LONGEST[door]}", f"-timeout={_HANGS_AFTER}", f"-rss_limit_mb={_MOST_MEMORY}"]
    ours = {"custom_mutator": _spoilt} if door == "sessions" else {}
    atheris.Setup([door, *limits, *arguments], DOORS[door], **ours)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
