"""Orthanc under the restrictions that docker-compose.yml gives it: no capability, nothing to write to but its volume.

Its image can't be had here, so Debian's Orthanc is put under them by the kernel's own means.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.container import building
from tests.end_to_end.harness import running, tool, until
from tests.packaging.composed_orthanc import SERVICE, ComposedOrthanc, mammogram, sent

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(building.missing()), reason=building.missing())]

READ_ONLY = "mount --make-rprivate / && mount --bind {0} {0} && mount -o remount,ro,bind / && exec {1}"


class ConfinedOrthanc(ComposedOrthanc):
    """The service's command, as root without capabilities on a read-only file system; only `images` can be written."""

    def command_line(self) -> list[str]:
        images = self.folder / "images"
        images.mkdir(exist_ok=True)
        powerless = [tool("setpriv"), "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        inner = READ_ONLY.format(images, '"$@"')
        return [tool("unshare"), "--mount", "sh", "-ec", inner, "sh", *powerless, *super().command_line()]


def test_orthanc_takes_images_without_any_capability_and_with_a_read_only_root(tmp_path: Path) -> None:
    assert SERVICE["read_only"]
    assert SERVICE["cap_drop"] == ["ALL"]
    orthanc = ConfinedOrthanc(tmp_path / "orthanc", "synthetic-1")
    with running(orthanc):
        orthanc.start()
        assert orthanc.process
        told = Path(f"/proc/{orthanc.process.pid}/status").read_text().splitlines()
        assert {line.split()[1] for line in told if line.startswith("Cap")} == {"0" * 16}
        sent(orthanc, mammogram(tmp_path))
        until(lambda: (orthanc.get("/studies") or (0, []))[1], "the image is there")
        assert orthanc.stop(seconds=30) == 0
