"""The floor: asyncio that sends fixed bytes. What Python's sockets allow, and SQLite where something must be kept.

`python -m bench.floor PORT SIZE DATABASE`. It knows no worklist and reads no more than it must to choose its bytes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import struct
import sys

from bench import dicom_messages
from bench.dicom_items import data_set, item, matches, study_uid

_ASSOCIATE_RQ, _P_DATA, _RELEASE_RQ = 0x01, 0x04, 0x05
_CONTEXT, _HEADER = 10, 11
"""Where the first presentation data value of a P-DATA-TF has its context and its message control header."""

_ACCEPTED, _RELEASED = dicom_messages.accepted(), dicom_messages.released()


class Floor(asyncio.Protocol):
    """One connection. Asyncio sets TCP_NODELAY by itself."""

    def __init__(self, answers: dict[int, bytes], log: sqlite3.Connection) -> None:
        self._answers = answers
        self._log = log
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each PDU that is whole."""
        self._received += data
        while len(self._received) >= 6:
            kind, length = struct.unpack_from(">BxI", self._received)
            if len(self._received) < 6 + length:
                return
            pdu, self._received = self._received[: 6 + length], self._received[6 + length :]
            if kind == _ASSOCIATE_RQ:
                self._transport.write(_ACCEPTED)
            elif kind == _RELEASE_RQ:
                self._transport.write(_RELEASED)
            elif kind == _P_DATA:
                self._answer(pdu)

    def _answer(self, pdu: bytes) -> None:
        """A request ends with its data set; an echo has none."""
        context, header = pdu[_CONTEXT], pdu[_HEADER]
        if header & 1 and context != dicom_messages.ECHO_CONTEXT:
            return
        if context == dicom_messages.STEP_CONTEXT:
            self._log.execute("INSERT INTO kept VALUES (?)", (pdu,))
        self._transport.write(self._answers[context])


def answers(size: int) -> dict[int, bytes]:
    """What is answered in each presentation context."""
    return {
        dicom_messages.ECHO_CONTEXT: dicom_messages.echoed(),
        dicom_messages.WORKLIST_CONTEXT: dicom_messages.found(
            data_set(item(number, size=size), study_uid(number)) for number in range(matches(size))
        ),
        dicom_messages.STEP_CONTEXT: dicom_messages.changed(),
    }


async def serve(port: int, size: int, database: str) -> None:
    """Serve until the process ends."""
    log = sqlite3.connect(database, isolation_level=None)
    log.execute("PRAGMA journal_mode = WAL")
    log.execute("PRAGMA synchronous = FULL")
    log.execute("CREATE TABLE IF NOT EXISTS kept (pdu BLOB)")
    fixed = answers(size)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Floor(fixed, log), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
