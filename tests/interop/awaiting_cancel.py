"""A responder that makes a cancel certain: no client is fast enough to stop a short list otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

from gateway.dicom.caller import Caller
from gateway.dicom.find import FindResponse
from gateway.dicom.responder import Responder

_DEADLINE = 30.0

_LONGER_THAN_A_BATCH = 0.03
"""Seconds for an answer to be made: no engine waits for the next one before it sends it."""


class AwaitingCancel(Responder):
    """After `answers` pending responses it goes on only when the C-CANCEL is here."""

    answers = 1

    def is_quick(self, caller: Caller, data: bytes | None, transfer_syntax: str) -> bool:  # it waits
        return False

    def find(
        self, caller: Caller, data: bytes | None, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        pause, deadline, sent = Event(), time.monotonic() + _DEADLINE, 0

        def cancelled() -> bool:
            if sent < self.answers:
                return False
            while time.monotonic() < deadline:
                if is_cancelled():
                    return True
                pause.wait(0.01)
            return False

        for response in super().find(caller, data, transfer_syntax, cancelled):
            pause.wait(_LONGER_THAN_A_BATCH)
            sent += 1
            yield response
