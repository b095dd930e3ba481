"""DIMSE statuses we answer with (PS3.7 Annex C, PS3.4 Tables K.4-1 and F.7.2-2), and the refusal that carries one."""

from __future__ import annotations

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00

# C-FIND, PS3.4 K.4.1.1.4
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_DOES_NOT_MATCH = 0xA900
UNABLE_TO_PROCESS = 0xC000

# N-CREATE and N-SET, PS3.7 Annex C
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
INVALID_OBJECT_INSTANCE = 0x0117
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
SOP_CLASS_NOT_SUPPORTED = 0x0122
UNRECOGNISED_OPERATION = 0x0211

# Error ID, PS3.4 Table F.7.2-2
MAY_NO_LONGER_BE_UPDATED = 0xA710


class RequestRefused(Exception):
    """A request can't be served; holds what the answer says about it. The comment never quotes the request.

    `tags` are the attributes it is about: Offending Element of a C-FIND, Attribute Identifier List of an N-service.
    `attribute_list` is an encoded data set with the bad values (0x0106).
    """

    def __init__(
        self,
        status: int,
        comment: str,
        *,
        tags: tuple[int, ...] = (),
        attribute_list: bytes | None = None,
    ) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment
        self.tags = tags
        self.attribute_list = attribute_list
