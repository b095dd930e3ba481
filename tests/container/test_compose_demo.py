"""docker-compose.yml's demo profile, carried out: each service in its container, under its name, as the file says.

No compose is at hand, so this plays it: variables, dependencies, health, restarts. The story must come to its end.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.container.building import ROOT, Image
from tests.container.running import Container

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Start = Callable[..., Container]

_VARIABLE = re.compile(r"\$\{(\w+):?-([^}]*)\}")


def interpolated(value: Any) -> Any:
    """Values as compose would see them where nothing is set: each variable at its default."""
    if isinstance(value, dict):
        return {key: interpolated(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolated(inner) for inner in value]
    return _VARIABLE.sub(r"\2", value) if isinstance(value, str) else value


SERVICES: dict[str, dict[str, Any]] = interpolated(
    yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
)
DEMO = {name: service for name, service in SERVICES.items() if "demo" in service.get("profiles", [])}


def in_order(services: dict[str, dict[str, Any]]) -> list[str]:
    """Each service after those it depends on."""
    ordered: list[str] = []
    while len(ordered) < len(services):
        ready = [n for n, s in services.items() if n not in ordered and set(s.get("depends_on", {})) <= set(ordered)]
        assert ready, "services depend on each other in a circle"
        ordered += ready
    return ordered


class Compose:
    """Starts services on one network, where each is known by its name."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self._hosts = folder / "hosts"
        self._hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *DEMO)))
        self.containers: dict[str, Container] = {}

    def up(self, name: str) -> Container:
        for other, needed in DEMO[name].get("depends_on", {}).items():
            assert needed["condition"] == "service_healthy"
            check = DEMO[other].get("healthcheck", {})
            self.containers[other].until_healthy({"Test": check["test"]} if "test" in check else None)
        self.containers[name] = self._start(
            name,
            command=DEMO[name].get("command"),
            environment=DEMO[name].get("environment", {}),
            tmpfs=DEMO[name]["tmpfs"],
            network=next(iter(self.containers.values()), None),
            hosts=self._hosts,
        )
        return self.containers[name]


def until(said: str, container: Container, *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while said not in container.log:
        assert time.monotonic() < deadline, f"{container.name} never said {said!r}:\n{container.log}"
        time.sleep(0.1)


def test_the_demo_profile_plays_to_its_end(start: Start, image: Image, tmp_path: Path) -> None:
    compose = Compose(start, tmp_path)
    for name in in_order(DEMO):
        compose.up(name)
    for _ in range(int(DEMO["modality"]["restart"].removeprefix("on-failure:"))):
        if compose.containers["modality"].wait(seconds=60) == 0:
            break
        time.sleep(0.2)
        compose.up("modality")
    else:
        pytest.fail(compose.containers["modality"].log + compose.containers["demo-gateway"].log)
    web_app = compose.containers["web-app"]
    until("ACC001 is IN PROGRESS", web_app)
    until("ACC001 is COMPLETED", web_app)
    for name in ("web-app", "demo-gateway", "relay"):
        assert compose.containers[name].stop() == 0, f"{name}:\n{compose.containers[name].log}"
        assert "Traceback" not in compose.containers[name].log
