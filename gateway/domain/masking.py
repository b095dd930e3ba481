"""What is shown of a person to somebody who has given no reason: enough to tell two apart, too little to know who."""

from __future__ import annotations

import re

BULLET = "•"
HIDDEN = BULLET * 3
"""Stands for a text of which nothing may be shown."""


def masked_name(name: str) -> str:
    """`SMITH^JANE` as `S•••• J•••`."""
    words = name.replace("=", " ").replace("^", " ").split()
    return " ".join(word[0] + BULLET * (len(word) - 1) for word in words)


def masked_id(patient_id: str) -> str:
    """An id by its last three characters."""
    return BULLET * max(0, len(patient_id) - 3) + patient_id[-3:] if len(patient_id) > 3 else BULLET * len(patient_id)


def masked_key(value: str) -> str:
    """A key's value with the first letter of each word and the signs that matter in a key: `sm*^jane` as `s•*^j•••`."""
    return re.sub(r"[^\s^=\\*?-]+", lambda word: word[0][0] + BULLET * (len(word[0]) - 1), value)


def masked_value(vr: str, text: str) -> str:
    """A name (VR `PN`) or an id of a data set: what `gateway.dicom.readable` takes as a mask."""
    return masked_name(text) if vr == "PN" else masked_id(text)
