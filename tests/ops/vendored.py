"""Brings the window's stylesheet: `python -m tests.ops.vendored` (`make stylesheet`).

The npm package's own file, less what would be fetched from elsewhere: the NHS's font, which is theirs to give, and the
icons of parts that we do not use.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "10.6.1"
STATIC = Path(__file__).parents[2] / "gateway" / "ops" / "window" / "static"
FILE = f"nhsuk-frontend-{VERSION}.min.css"


def offline(stylesheet: str) -> str:
    """The stylesheet without fonts, icons and source maps of another place."""
    text = re.sub(r"@font-face\{[^}]*\}", "", stylesheet)
    text = text.replace("Frutiger W01,arial", "Arial")
    text = re.sub(r"[\w-]+:url\(/assets[^;}]*;?", "", text)
    return re.sub(r"[^{};]*:url\(/assets[^;}]*;?|/\*# sourceMappingURL=.*?\*/", "", text)


def main() -> None:
    """Fetch and write."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"nhsuk-frontend@{VERSION}"], cwd=folder, check=True)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            member = package.extractfile("package/dist/nhsuk/nhsuk-frontend.min.css")
            assert member
            (STATIC / FILE).write_text(offline(member.read().decode()))


if __name__ == "__main__":
    main()
