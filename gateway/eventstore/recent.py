"""Streams as they were saved last, for whoever goes on with them: a step that began will end.

Each is handed out once, so that nobody shares it. It may be behind the log by then, as another process writes there as
well: whoever decides on it saves its next event in any case, and the store's primary key refuses that one when the log
has gone on. Then nothing is here any more, and the next try reads the log. So a refusal must never rest on one of these
streams; what ends them isn't kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any
from uuid import UUID


class Recent:
    """The latest streams, at most so many. Used by many threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._streams: OrderedDict[UUID, Any] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, stream_id: UUID, stream: object) -> None:
        """Keep it until somebody takes it, or so many others came after it."""
        with self._lock:
            self._streams.pop(stream_id, None)
            self._streams[stream_id] = stream
            if len(self._streams) > self._most:
                self._streams.popitem(last=False)

    def take(self, stream_id: UUID) -> Any:  # noqa: ANN401  whatever was kept
        """The stream, which is here no longer; None when it is not here."""
        with self._lock:
            return self._streams.pop(stream_id, None)

    def clear(self) -> None:
        """Keep nothing of what was kept."""
        with self._lock:
            self._streams.clear()
