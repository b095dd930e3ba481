"""Runs an image as an engine would: its own user, environment, entry point and volumes, carried out by crun.

Each container has its own processes, mounts and (unless it joins another's) network; the root file system is read-only,
no capability is left, and the first process is number 1.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.container.building import Image

_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# crun wants one kind of control groups; a machine with both shows it only the newer kind, inside this command.
_ONE_KIND_OF_CGROUPS = 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'


@dataclass
class Container:
    """One container. `volumes` and `tmpfs` are by their place inside; `network` is another container's to share."""

    image: Image
    name: str
    folder: Path
    command: Sequence[str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, Path] = field(default_factory=dict)
    tmpfs: Sequence[str] = ("/tmp",)
    network: Container | None = None
    hosts: Path | None = None

    def start(self) -> Container:
        """Start it and wait until its first process runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(self._specification()), encoding="utf-8")
        self._log = (self.folder / "log").open("ab")
        self._engine = subprocess.Popen(
            [*_alone(), "crun", *self._state, "run", "--bundle", self.folder, self.name],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 20
        while (state := self._look()) is None or state["status"] != "running":
            if self._engine.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        self.pid = state["pid"] if state else 0
        return self

    def stop(self, *, seconds: float = 10) -> int:
        """Ask it to stop with the image's stop signal; returns its exit code. Raises when it does not stop in time."""
        if self._engine.poll() is None:
            self.crun("kill", self.name, self.image.config.get("StopSignal") or "SIGTERM")
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float) -> int:
        """Wait until it ended of its own; returns its exit code."""
        code = self._engine.wait(timeout=seconds)
        self._log.close()
        return code

    def remove(self) -> None:
        """End it, whatever it does."""
        if self._engine.poll() is None:
            self.crun("delete", "--force", self.name)
            self._engine.wait(timeout=10)
        self._log.close()

    def execute(self, *command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as the container's user, as `docker exec` does."""
        given = [f"--env={name}={value}" for name, value in (self._environment() | (environment or {})).items()]
        return _spoken("crun", *self._state, "exec", f"--user={self.image.config['User']}", *given, self.name, *command)

    def from_outside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine on the container's network."""
        return _spoken("nsenter", f"--net=/proc/{self.pid}/ns/net", *command)

    def is_healthy(self, check: dict[str, Any] | None = None, environment: dict[str, str] | None = None) -> bool:
        """Ask the question of the image's health check, or another's."""
        kind, *command = (check or self.image.config["Healthcheck"])["Test"]
        assert kind == "CMD"
        return self.execute(*command, environment=environment).returncode == 0

    def until_healthy(self, check: dict[str, Any] | None = None, *, seconds: float = 20) -> float:
        """Wait for the health check; returns how long it took."""
        began = time.monotonic()
        while not self.is_healthy(check):
            assert self._engine.poll() is None, f"{self.name} ended:\n{self.log}"
            assert time.monotonic() - began < seconds, f"{self.name} is not healthy:\n{self.log}"
            time.sleep(0.1)
        return time.monotonic() - began

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def user(self) -> int:
        return int(self.image.config["User"].split(":")[0])

    def crun(self, *words: str) -> subprocess.CompletedProcess[str]:
        return _spoken("crun", *self._state, *words)

    @property
    def _state(self) -> list[str]:
        return ["--cgroup-manager=disabled", f"--root={self.folder.parent / 'crun'}"]

    def _look(self) -> dict[str, Any] | None:
        told = self.crun("state", self.name)
        return json.loads(told.stdout) if told.returncode == 0 else None

    def _environment(self) -> dict[str, str]:
        configured = dict(pair.split("=", 1) for pair in self.image.config["Env"])
        return configured | self.environment

    def _specification(self) -> dict[str, Any]:
        config = self.image.config
        user, group = (int(number) for number in config["User"].split(":"))
        arguments = [*config["Entrypoint"], *(config["Cmd"] if self.command is None else self.command)]
        namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        joined = {"path": f"/proc/{self.network.pid}/ns/net"} if self.network else {}
        return {
            "ociVersion": "1.0.0",
            "hostname": self.name,
            "root": {"path": str(self.image.files), "readonly": True},
            "process": {
                "user": {"uid": user, "gid": group},
                "args": arguments,
                "cwd": config["WorkingDir"],
                "env": [f"{name}={value}" for name, value in self._environment().items()],
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": self._mounts(),
            "linux": {
                "namespaces": [*namespaces, {"type": "network"} | joined],
                "maskedPaths": _MASKED,
                "readonlyPaths": _READ_ONLY,
            },
        }

    def _mounts(self) -> list[dict[str, Any]]:
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
        ]
        for place in self.tmpfs:
            where, _, options = place.partition(":")
            given = options.split(",") if options else ["mode=1777"]
            mounts.append(
                {"destination": where, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", *given]}
            )
        for place, folder in self.volumes.items():
            mounts.append({"destination": place, "type": "bind", "source": str(folder), "options": ["rbind", "rw"]})
        if self.hosts:
            mounts.append(
                {"destination": "/etc/hosts", "type": "bind", "source": str(self.hosts), "options": ["bind", "ro"]}
            )
        return mounts


def new_volume(image: Image, place: str, folder: Path) -> Path:
    """A new, empty volume for a place in the image: an engine gives it that folder's owner and mode."""
    like = (image.files / place.lstrip("/")).stat()
    folder.mkdir(parents=True)
    folder.chmod(like.st_mode & 0o7777)
    os.chown(folder, like.st_uid, like.st_gid)
    return folder


def _alone() -> list[str]:
    one_kind = Path("/sys/fs/cgroup/cgroup.controllers").exists() or not Path("/sys/fs/cgroup").is_mount()
    return [] if one_kind else ["unshare", "--mount", "sh", "-c", _ONE_KIND_OF_CGROUPS, "sh"]


def _spoken(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


STOPPED_BY_SIGTERM = 128 + signal.SIGTERM
"""Exit code of a container whose first process did not handle SIGTERM."""
