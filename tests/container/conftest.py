import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.container import building
from tests.container.building import Image
from tests.container.running import Container


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    reason = building.missing()
    if reason and os.environ.get("CI") != "true":
        pytest.skip(f"the image is not built: {reason}")
    assert not reason
    with building.opened() as store:
        yield building.build(store, building.ROOT / "Dockerfile", tmp_path_factory.mktemp("build"))


Start = Callable[..., Container]


@pytest.fixture
def start(image: Image, tmp_path: Path) -> Iterator[Start]:
    """Starts containers and ends them with the test. A container gets its own folder, `log` in it."""
    started: list[Container] = []

    def start(name: str, **given: Any) -> Container:
        container = Container(image, name, tmp_path / f"{len(started)}-{name}", **given)
        started.append(container)
        return container.start()

    yield start
    for container in reversed(started):
        container.remove()
