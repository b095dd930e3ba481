"""What is locked, and what is packed."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME, DEVELOPMENT, BUILD = "requirements.lock", "requirements-dev.lock", "requirements-build.lock"
FUZZ = "requirements-fuzz.lock"


def named(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def group(name: str) -> set[str]:
    found: set[str] = set()
    for entry in PROJECT["dependency-groups"][name]:
        found |= {named(entry)} if isinstance(entry, str) else group(entry["include-group"])
    return found


def locked(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    pins = [re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line) for line in lines if line[:1].strip() and line[0] != "#"]
    assert all(pins), f"{lock} holds something that is not a pin"
    return {named(pin[1]): pin[2] for pin in pins if pin}


DIRECT = {named(requirement) for requirement in PROJECT["project"]["dependencies"]}
EXTRAS = {named(each) for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra}


@pytest.mark.parametrize(
    ("lock", "asked"),
    [
        (RUNTIME, DIRECT | EXTRAS),
        (DEVELOPMENT, DIRECT | EXTRAS | group("dev")),
        (BUILD, group("build")),
        (FUZZ, group("fuzz")),
    ],
    ids=[RUNTIME, DEVELOPMENT, BUILD, FUZZ],
)
def test_a_lock_covers_what_the_project_asks_for_with_all_extras(lock: str, asked: set[str]) -> None:
    assert asked <= set(locked(lock))


@pytest.mark.parametrize("lock", [RUNTIME, DEVELOPMENT, BUILD, FUZZ])
def test_each_pin_has_hashes_and_none_names_a_server(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ file", text)
    for entry in re.split(r"\n(?=[a-z0-9])", text.strip()):
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_locks_agree_with_each_other() -> None:
    development = locked(DEVELOPMENT)
    for lock in (RUNTIME, BUILD):
        assert locked(lock).items() <= development.items()


def test_the_build_backend_is_among_what_is_locked() -> None:
    assert {named(requirement) for requirement in PROJECT["build-system"]["requires"]} <= group("build")


@pytest.mark.slow
def test_the_wheel_holds_the_three_packages_and_nothing_of_the_workshop(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("worklist_gateway-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gateway", "relay", "projections"}
    sources = {
        str(path.relative_to(ROOT))
        for package in ("gateway", "relay", "projections")
        for path in (ROOT / package).rglob("*.py")
    }
    assert sources | {"relay/py.typed", "gateway/contract/samples/actions/echo.json"} <= set(names)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "gateway = gateway.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()
    documents = "gateway/ops/window/documents"
    shown = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*") if path.is_file()}
    expected = {f"{documents}/{name}" for name in {"README.md", "CHANGELOG.md", "bench/README.md"} | shown}
    assert {name for name in names if name.startswith(documents)} == expected
    shipped = (path for kind in ("templates", "static") for path in (ROOT / "gateway/ops/window" / kind).iterdir())
    assert {str(path.relative_to(ROOT)) for path in shipped} <= set(names)
