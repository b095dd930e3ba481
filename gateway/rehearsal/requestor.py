"""An association that pynetdicom requests, and whose responses are its caller's.

pynetdicom reads an association in a thread of its own and lets a caller hold that thread while it waits for a
response. A thread that is just leaving its checkpoint counts as held, takes a response that comes at once, and drops
it as unexpected: the caller waits in vain. `associate` gives the association a checkpoint that knows who is there.
"""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom import AE

_LOOK = 0.01
"""Seconds between two looks whether the association's thread still lives."""


def associate(entity: AE, host: str, port: int, **options: Any) -> Any:  # noqa: ANN401  pynetdicom is untyped
    """`entity.associate(host, port, **options)`, with the checkpoint. What it raises is pynetdicom's."""
    association = entity.associate(host, port, **options)
    association._reactor_checkpoint = _Checkpoint(association)  # noqa: SLF001  there is no other way in
    return association


class _Checkpoint(threading.Event):
    """Open when set. `clear` returns once the association's thread stands here, or will never come again."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self.set()
        self._thread = thread
        self._here = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Pass once it is open. Whoever saw us here finds us here: we look again after saying that we leave."""
        while True:
            self._here.set()
            passed = super().wait(timeout)
            self._here.clear()
            if self.is_set() or not passed:
                return passed

    def clear(self) -> None:
        """Close it, and see the thread held."""
        super().clear()
        if threading.current_thread() is self._thread:
            return
        while not self._here.wait(_LOOK) and self._thread.is_alive():
            pass
