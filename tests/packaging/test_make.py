"""The words of the Makefile, and what CI says with them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = (
    "run",
    "test",
    "orthanc",
    "second-engine",
    "quick",
    "lint",
    "format",
    "image",
    "crash",
    "soak",
    "fuzz",
    "bench",
    "screenshots",
    "lock",
    "clean",
    "help",
)

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")


def make(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", *words], cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=30, check=False
    )


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_each_target_is_there(target: str) -> None:
    plan = make("-n", target)
    assert plan.returncode == 0, plan.stderr


@needs_make
def test_make_alone_lists_them() -> None:
    told = make().stdout
    for target in TARGETS:
        assert f"make {target} " in told


@needs_make
def test_run_ends_in_the_demo_and_test_in_pytest() -> None:
    assert make("-n", "run", "ARGS=--once").stdout.splitlines()[-1].endswith("gateway demo --once")
    assert "-m pytest" in make("-n", "test").stdout.splitlines()[-1]


@needs_make
@pytest.mark.parametrize("target", ["soak", "fuzz"])
def test_the_soak_and_the_fuzzer_are_no_tests_and_take_their_arguments(target: str) -> None:
    assert make("-n", target, "ARGS=--seed 7").stdout.splitlines()[-1].endswith(f"-m tests.{target} --seed 7")


@needs_make
def test_in_ci_a_skip_is_a_failure() -> None:
    assert "-p no_skips" in make("-n", "test", CI="true").stdout
    assert "-p no_skips" not in make("-n", "test").stdout


@needs_make
def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh", "touch"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    (tools / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.20" || exit 1\n')
    (tools / "python3").chmod(0o755)
    told = make("run", cwd=tmp_path, PATH=str(tools))
    assert told.returncode != 0
    assert "Python 3.11 or newer" in told.stdout
    assert "python3 is Python 3.8.20" in told.stdout


def test_ci_runs_the_same_words_as_a_person() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert set(re.findall(r"^step (\w+)$", script, flags=re.MULTILINE)) == {"lint", "image", "crash", "test", "orthanc"}


def test_the_readme_opens_with_the_two_words() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\s*(?:\$ )?make (\w+)", readme, flags=re.MULTILINE)
    assert shown[:2] in ([], ["run", "test"])
    assert set(shown) <= set(TARGETS)


def test_a_skip_is_turned_into_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip('no tool')\n")
    (tmp_path / "test_file.py").write_text("import pytest\n\npytest.importorskip('no_such_module')\n")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no_skips", "--continue-on-collection-errors"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / ".ci")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 failed, 1 error" in told.stdout, told.stdout
    assert "nothing is skipped in CI" in told.stdout
