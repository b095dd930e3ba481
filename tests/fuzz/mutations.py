"""How a session is spoilt and its frame is not: lengths are put right again, or none would come past the first."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

P_DATA, A_ASSOCIATE_RQ = 0x04, 0x01
_FIXED = 68
"""Bytes of an A-ASSOCIATE-RQ between its header and its items."""

Mutate = Callable[[bytes, int], bytes]
"""Spoils bytes somehow; given the most bytes that may become of them."""


def spoilt_session(data: bytes, most: int, dice: random.Random, mutate: Mutate) -> bytes:
    """A session, in at most so many bytes, in which one PDU is spoilt, said twice, left out, or said too early."""
    pdus = _split(data[1:])
    if not pdus:
        return mutate(data, most)
    at = dice.randrange(len(pdus))
    match dice.randrange(6):
        case 0:
            pdus.insert(at, pdus[at])
        case 1:
            del pdus[at]
        case 2:
            pdus.insert(dice.randrange(len(pdus)), pdus.pop(at))
        case _:
            pdus[at] = _spoilt_pdu(pdus[at], max(64, most - len(data)), dice, mutate)
    return (data[:1] + b"".join(pdus))[:most]


def _split(stream: bytes) -> list[bytes]:
    """The PDUs; what is no whole one is the last."""
    pdus, at = [], 0
    while at < len(stream):
        length = int.from_bytes(stream[at + 2 : at + 6], "big")
        pdus.append(stream[at : at + 6 + length])
        at += 6 + length
    return pdus


def _spoilt_pdu(pdu: bytes, room: int, dice: random.Random, mutate: Mutate) -> bytes:
    """One of which the body, a fragment or an item is spoilt, and all lengths are right."""
    kind, body = pdu[:1], pdu[6:]
    most = len(body) + room
    if kind == bytes((P_DATA,)) and len(body) > 6 and dice.random() < 0.7:
        length = int.from_bytes(body[:4], "big")
        fragment = mutate(body[6 : 4 + length], most)
        body = struct.pack(">I", len(fragment) + 2) + body[4:6] + fragment + body[4 + length :]
    elif kind == bytes((A_ASSOCIATE_RQ,)) and len(body) > _FIXED and dice.random() < 0.7:
        body = body[:_FIXED] + _spoilt_items(body[_FIXED:], most, dice, mutate)
    else:
        body = mutate(body, most)
    return kind + b"\0" + struct.pack(">I", len(body)) + body


def _spoilt_items(data: bytes, most: int, dice: random.Random, mutate: Mutate) -> bytes:
    """Items (PS3.8 9.3.2) of which one is spoilt; sometimes one within it."""
    items, at = [], 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        items.append((data[at : at + 2], data[at + 4 : at + 4 + length]))
        at += 4 + length
    if not items:
        return mutate(data, most)
    chosen = dice.randrange(len(items))
    kind, value = items[chosen]
    skipped = {0x20: 4, 0x50: 0}.get(kind[0])
    if skipped is not None and len(value) > skipped and dice.random() < 0.7:
        value = value[:skipped] + _spoilt_items(value[skipped:], most, dice, mutate)
    else:
        value = mutate(value, most)
    items[chosen] = (kind, value[:0xFFFF])
    return b"".join(kind + struct.pack(">H", len(value)) + value for kind, value in items)
