"""A responder that makes a cancel certain: no client is fast enough to stop a short list otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event

from gateway.dicom.caller import Caller
from gateway.dicom.find import FindResponse
from gateway.dicom.responder import Responder

_DEADLINE = 30.0


class AwaitingCancel(Responder):
    """After `answers` pending responses it goes on only when the C-CANCEL is here."""

    answers = 1

    def find(
        self, caller: Caller, data: bytes | None, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        looks, pause, deadline = iter(range(self.answers)), Event(), time.monotonic() + _DEADLINE

        def cancelled() -> bool:
            if next(looks, None) is not None:
                return False
            while time.monotonic() < deadline:
                if is_cancelled():  # pynetdicom says so once only
                    return True
                pause.wait(0.01)
            return False

        yield from super().find(caller, data, transfer_syntax, cancelled)
