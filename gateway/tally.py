"""How often something happened since this process started, for metrics."""

from __future__ import annotations

import threading
from collections import Counter

Labels = tuple[str, ...]


class Tally:
    """Counts by labels, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[Labels] = Counter()

    def count(self, *labels: str) -> None:
        """Once more."""
        with self._lock:
            self._counted[labels] += 1

    def counted(self) -> dict[Labels, int]:
        """All of it, as it stands now."""
        with self._lock:
            return dict(self._counted)
