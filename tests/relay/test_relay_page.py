"""docs/relay.md: its programs run, and its table of faults is the catalogue."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from relay.emulator import CATALOGUE, FaultKind
from relay.emulator.faults import in_words

PAGE = (Path(__file__).parents[2] / "docs" / "relay.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def row(kind: FaultKind) -> str:
    parameters = ", ".join(f"`{words}`" for words in in_words(kind.details))
    return f"| `{kind.name}` | {'lasts' if kind.lasts else 'once'} | {parameters} | {kind.summary} |"


def test_the_table_of_faults_is_the_catalogue() -> None:
    assert re.findall(r"^\| `[a-z-]+` \| (?:lasts|once) \|.*\|$", PAGE, re.MULTILINE) == [
        row(kind) for kind in CATALOGUE.values()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_its_programs_run_as_they_stand(number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[number]], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_its_samples_import_nothing_that_they_do_not_use() -> None:
    for program in PROGRAMS:
        for names in re.findall(r"^from .* import ([^#\n]*)", program, re.MULTILINE):
            for name in names.split(","):
                assert len(re.findall(rf"\b{name.strip()}\b", program)) > 1, name
