"""Follows the log of an emulator in another process, over its deaths, without gaps."""

from __future__ import annotations

import threading
import time
from typing import Any

from relay import RelayError
from relay.emulator.remote import RemoteEmulator
from tests.end_to_end.evidence import Span
from tests.end_to_end.harness import RelayProcess
from tests.soak.record import Entry, Record

_EVERY = 0.25


class RelayWatch:
    """Writes what the emulator did into the record. What it did in its last moment before a SIGKILL is lost."""

    def __init__(self, relay: RelayProcess, record: Record) -> None:
        self.relay = relay
        self.remote = RemoteEmulator(f"http://127.0.0.1:{relay.port}")
        self.gaps = 0
        self._record = record
        self._lock = threading.Lock()
        self._last = 0
        self._born = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="relay watch", daemon=True)

    def begin(self) -> None:
        """Start the emulator, and follow it."""
        self.start_relay()
        self._thread.start()

    def start_relay(self) -> None:
        """Start the emulator: its log begins anew."""
        with self._lock:
            self._last, self._born = 0, time.monotonic()
            self.relay.start()

    def kill_relay(self) -> None:
        """SIGKILL, right after a last look."""
        with self._lock:
            self._look()
            self.relay.kill()
            self._record.relay_lives.append(Span(self._born, time.monotonic()))

    def end(self) -> None:
        """Look for the last time."""
        self._over.set()
        self._thread.join(10)
        self.kill_relay()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY):
            with self._lock:
                self._look()

    def _look(self) -> None:
        while entries := self._news():
            self.gaps += entries[0]["number"] != self._last + 1
            self._last = entries[-1]["number"]
            for entry in entries:
                seen = Entry(entry["at"], entry["what"], entry["path"].strip("/"), entry["status"], entry["took"])
                if seen.what in ("listen", "listener gone") or seen.status == 404:
                    self._record.entries.append(seen)

    def _news(self) -> list[dict[str, Any]]:
        if not self.relay.running:
            return []
        try:
            return self.remote.log(self._last)
        except RelayError:
            return []  # it answers the next time; a gap would be counted
