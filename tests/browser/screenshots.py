"""Pictures of the window for the documents: `python -m tests.browser.screenshots` (`make screenshots`).

A morning is played in a hospital of the emulator's, with synthetic people, and looked at with Chromium.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser import morning, visiting
from tests.browser.visiting import Visitor

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LARGEST = 150 * 1024
"""Bytes of a picture: it is kept in the repository, and loaded by whoever reads the page."""
TOKEN = "an-operator-may-act-too"


@dataclass(frozen=True, slots=True)
class Picture:
    """What is taken: of which page, how wide, and how high at most."""

    name: str
    path: str
    width: int = 1000
    height: int = 1000


PICTURES = (
    Picture("window-clinic", "/clinic"),
    Picture("window-step", f"/step/{morning.COMPLETED}", height=1150),
    Picture("window-modalities", "/modalities"),
    Picture("window-health", "/health"),
    Picture("window-clinic-narrow", "/clinic", width=375, height=812),
)


def main() -> None:
    """Play, look, and write."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        visiting.hospital(Path(folder), gateway_ops_operator_token=TOKEN) as hospital,
        sync_playwright() as playwright,
        visiting.chromium(playwright) as browser,
    ):
        morning.play(hospital)
        page = visiting.sign_in(Visitor(hospital, browser.new_context()), TOKEN)
        for picture in PICTURES:
            page.set_viewport_size({"width": picture.width, "height": picture.height})
            page.goto(f"{hospital.address}{picture.path}")
            file = IMAGES / f"{picture.name}.png"
            page.screenshot(path=file, animations="disabled")
            size = file.stat().st_size
            print(f"{file.relative_to(IMAGES.parents[1])}  {size // 1024} kB")
            if size > LARGEST:
                raise SystemExit(f"that is more than {LARGEST // 1024} kB: show less of the page")


if __name__ == "__main__":
    main()
