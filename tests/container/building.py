"""Builds the image from the Dockerfile for real, on a machine without an image registry.

The base image that FROM names is made here, by debootstrap: Debian with its Python, under the same name. It is kept in
a cache outside the checkout. buildah does the rest without a daemon; this machine's pip configuration is lent to it.
"""

from __future__ import annotations

import ast
import configparser
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
OURS = "worklist-gateway:under-test"

NEEDED = ("buildah", "crun", "debootstrap", "nsenter", "unshare")
_PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
_PIP_MAY_KNOW = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy"),
    *("cert", "client-cert", "timeout", "default-timeout", "retries"),
)
_BASE_ENVIRONMENT = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """What keeps this machine from building images; empty when nothing does."""
    absent = [tool for tool in NEEDED if shutil.which(tool, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)} missing"
    return "" if os.geteuid() == 0 else "images are built and run as root"


@dataclass(frozen=True)
class Image:
    """A built image: what its author configured, and its files."""

    config: dict[str, Any]
    files: Path


@dataclass(frozen=True)
class Store:
    """Where buildah keeps images: in layers where the kernel can lay them over each other, else as copies."""

    folder: Path
    driver: str

    def buildah(self, *words: str | Path, timeout: float = 900) -> str:
        places = ("--root", self.folder / self.driver, "--runroot", self.folder / f"{self.driver}-run")
        return _run("buildah", "--storage-driver", self.driver, *places, *words, timeout=timeout)

    def has(self, name: str) -> bool:
        listed = self.buildah("images", "--format", "{{.Name}}:{{.Tag}}", "--noheading")
        return any(line.split("/")[-1] == name for line in listed.splitlines())


@contextmanager
def opened() -> Iterator[Store]:
    """The store, for one session at a time; what an earlier session left is cleared away."""
    folder = _cache()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store(folder, "overlay" if _overlays(folder) else "vfs")
        _clear(store)
        yield store
        _clear(store)


def build(store: Store, dockerfile: Path, scratch: Path) -> Image:
    """Build, and lay the image's files out to be looked at and run."""
    for name in sorted(set(re.findall(r"^FROM (\S+)", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE))):
        _provide(store, name, scratch)
    store.buildah(
        *("bud", "--quiet", "--isolation", "chroot", "--format", "docker", "--pull-never"),
        *(f"--volume={source}:{target}:ro" for source, target in _lent_to_pip(scratch)),
        *("--build-arg", "VERSION=0.0.0+test", "--build-arg", "REVISION=test"),
        *("--file", dockerfile, "--tag", OURS, ROOT),
    )
    config = json.loads(store.buildah("inspect", "--type", "image", OURS))["Docker"]["config"]
    container = store.buildah("from", "--pull-never", OURS).strip()
    return Image(config, Path(store.buildah("mount", container).strip()))


def _provide(store: Store, name: str, scratch: Path) -> None:
    """Make a stand-in for an official Python image, once: the same Debian release, Debian's own Python."""
    match = re.fullmatch(r"python:(\d+\.\d+)-slim-(\w+)", name)
    assert match, f"no stand-in is known for {name}"
    suite = match[2]
    recipe = hashlib.sha256("\n".join((name, *_PACKAGES, _BASE_ENVIRONMENT)).encode()).hexdigest()
    made = store.folder / f"{store.driver}-{suite}.made"
    if store.has(name) and made.exists() and made.read_text() == recipe:
        return
    files = scratch / suite
    _run("debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", suite, files, *_mirror(suite))
    shutil.rmtree(files / "var/cache/apt", ignore_errors=True)
    shutil.rmtree(files / "var/lib/apt/lists", ignore_errors=True)
    (files / "usr/bin/python").symlink_to("python3")
    version = _run("chroot", files, "python", "--version").split()[-1]
    assert version.startswith(match[1] + "."), f"{suite} has Python {version}, {name} was asked for"
    container = store.buildah("from", "scratch").strip()
    store.buildah("add", "--quiet", container, files, "/")
    store.buildah("config", "--env", _BASE_ENVIRONMENT, "--cmd", "python3", container)
    store.buildah("commit", "--quiet", "--rm", "--format", "docker", container, name)
    shutil.rmtree(files)
    made.write_text(recipe)


def _mirror(suite: str) -> list[str]:
    """The Debian mirror that this machine's own packages come from; without one, debootstrap's choice."""
    if shutil.which("apt-get") is None:
        return []
    fields = "$(ORIGIN) $(RELEASE) $(REPO_URI)"
    listed = [
        line.split()
        for line in _run("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines()
    ]
    main = [words for words in listed if len(words) == 3 and words[0] == "Debian" and "-" not in words[1]]
    return [words[2] for words in sorted(main, key=lambda words: words[1] != suite)][:1]


def _lent_to_pip(scratch: Path) -> list[tuple[Path, Path]]:
    """This machine's pip configuration as one file, and the local folders and certificates that it names."""
    rising = ("global", "install", ":env:")
    lines = [line.partition("=") for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines()]
    found = [(*name.rsplit(".", 1), str(ast.literal_eval(value))) for name, _, value in lines]
    settings = {
        key: value
        for section, key, value in sorted(found, key=lambda entry: rising.index(entry[0]) if entry[0] in rising else -1)
        if section in rising and key in _PIP_MAY_KNOW
    }
    written = configparser.RawConfigParser()
    written["global"] = settings
    merged = scratch / "pip.conf"
    with merged.open("w", encoding="utf-8") as file:
        written.write(file)
    words = [word for value in settings.values() for word in value.split() if word.startswith(("/", "file:///"))]
    local = [Path(unquote(urlsplit(word).path)) for word in words]
    folders = {
        path.parent if path.name == "simple" else path for path in local if path.exists()
    }  # an index has its files beside it
    return [(merged, Path("/etc/pip.conf")), *((path, path) for path in sorted(folders))]


def _cache() -> Path:
    shared = Path("/var/cache")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (shared if os.access(shared, os.W_OK) else home) / "worklist-gateway-images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _overlays(folder: Path) -> bool:
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    for name in ("lower", "upper", "work", "merged"):
        (trial / name).mkdir(parents=True)
    options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work"
    mounted = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "overlay", "-o", options, "trial", trial / "merged"],
        capture_output=True,
        check=False,
    )
    return mounted.returncode == 0


def _clear(store: Store) -> None:
    store.buildah("rm", "--all")
    if store.has(OURS):
        store.buildah("rmi", "--force", OURS)
    store.buildah("rmi", "--prune", "--force")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(*command: str | Path, timeout: float = 900) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"PATH": _path()},
    )
    assert done.returncode == 0, (
        f"{command[0]} failed ({done.returncode}):\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout
