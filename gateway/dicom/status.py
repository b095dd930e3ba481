"""DIMSE statuses we answer with (PS3.7 Annex C, PS3.4 Tables K.4-1 and F.7.2-2), and the refusal that carries one."""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00

# C-FIND, PS3.4 K.4.1.1.4
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_DOES_NOT_MATCH = 0xA900
UNABLE_TO_PROCESS = 0xC000

# N-CREATE, N-SET and N-GET, PS3.7 Annex C
OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = 0x0001  # of MPPS Retrieve, PS3.4 Table F.8.2-2
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
INVALID_OBJECT_INSTANCE = 0x0117
CLASS_INSTANCE_CONFLICT = 0x0119
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
SOP_CLASS_NOT_SUPPORTED = 0x0122
DUPLICATE_INVOCATION = 0x0210
UNRECOGNISED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
RESOURCE_LIMITATION = 0x0213

# Error ID, PS3.4 Table F.7.2-2
MAY_NO_LONGER_BE_UPDATED = 0xA710


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of a table of statuses: when we answer with it, and which fields of the response come with it."""

    status: int
    meaning: str
    when: str
    fields: str = ""


_COMMENT_AND_ELEMENT = "Error Comment, Offending Element"
_COMMENT_AND_LIST = "Error Comment, Attribute Identifier List"

_OF_ANY_REQUEST = (
    Meaning(
        DUPLICATE_INVOCATION,
        "duplicate invocation",
        "a request with this message ID is in progress on the association",
        "Error Comment",
    ),
    Meaning(MISTYPED_ARGUMENT, "mistyped argument", "a value of the command set can't be read", "Error Comment"),
    Meaning(
        UNRECOGNISED_OPERATION,
        "unrecognized operation",
        "the SOP class of the presentation context has no such operation",
        "Error Comment",
    ),
)
"""Whatever is asked; an association server on pynetdicom's threads aborts instead (PS3.7 C.5.9, C.5.15, C.5.23)."""

C_FIND = (
    Meaning(PENDING, "pending", "an item matches; also when optional keys are returned empty", "identifier"),
    Meaning(SUCCESS, "success", "all matches were sent, none included"),
    Meaning(CANCELLED, "cancel", "a C-CANCEL came"),
    Meaning(
        OUT_OF_RESOURCES, "out of resources", "an answer limit cut the list, or we are overloaded", "Error Comment"
    ),
    Meaning(
        IDENTIFIER_DOES_NOT_MATCH,
        "identifier does not match SOP class",
        "the identifier is absent, damaged, without any key of this model, or a key can't be read",
        _COMMENT_AND_ELEMENT,
    ),
    Meaning(SOP_CLASS_NOT_SUPPORTED, "SOP class not supported", "another SOP class is named", "Error Comment"),
    Meaning(UNABLE_TO_PROCESS, "unable to process", "our own failure; ask again", "Error Comment"),
    *_OF_ANY_REQUEST,
)
"""Statuses of a C-FIND response (PS3.4 K.4.1.1.4)."""

_OF_ANY_N_REQUEST = (
    Meaning(INVALID_OBJECT_INSTANCE, "invalid object instance", "the SOP Instance UID is no UID", "Error Comment"),
    Meaning(
        CLASS_INSTANCE_CONFLICT,
        "class-instance conflict",
        "another SOP class is named for a step that exists",
        "Error Comment",
    ),
    Meaning(SOP_CLASS_NOT_SUPPORTED, "SOP class not supported", "another SOP class is named", "Error Comment"),
    *_OF_ANY_REQUEST,
    Meaning(
        RESOURCE_LIMITATION,
        "resource limitation",
        "the disk is full or the store is held; send it again",
        "Error Comment",
    ),
)

N_CREATE_AND_N_SET = (
    Meaning(SUCCESS, "success", "kept", "Affected SOP Class and Instance UID"),
    Meaning(
        INVALID_ATTRIBUTE_VALUE,
        "invalid attribute value",
        "N-CREATE with another status than IN PROGRESS; N-SET with a status that nobody knows",
        "Error Comment, attribute list with the bad value",
    ),
    Meaning(
        PROCESSING_FAILURE,
        "processing failure",
        "the step is final: Performed Procedure Step Object may no longer be updated",
        f"Error ID 0x{MAY_NO_LONGER_BE_UPDATED:04X}, Error Comment",
    ),
    Meaning(PROCESSING_FAILURE, "processing failure", "our own failure, or a damaged attribute list", "Error Comment"),
    Meaning(DUPLICATE_SOP_INSTANCE, "duplicate SOP instance", "N-CREATE of a step that exists; it stays as it is"),
    Meaning(NO_SUCH_SOP_INSTANCE, "no such SOP instance", "N-SET of a step that does not exist"),
    Meaning(MISSING_ATTRIBUTE, "missing attribute", "type 1 of the N-CREATE is absent", _COMMENT_AND_LIST),
    Meaning(MISSING_ATTRIBUTE_VALUE, "missing attribute value", "type 1 of the N-CREATE is empty", _COMMENT_AND_LIST),
    *_OF_ANY_N_REQUEST,
)
"""Statuses of N-CREATE and N-SET responses (PS3.7 10.1.3 and 10.1.5, PS3.4 Table F.7.2-2)."""

N_GET = (
    Meaning(SUCCESS, "success", "all that was asked for", "attribute list"),
    Meaning(
        OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
        "requested optional attributes are not supported",
        "some attributes that were asked for are not held",
        "attribute list of the others, Attribute Identifier List",
    ),
    Meaning(NO_SUCH_SOP_INSTANCE, "no such SOP instance", "there is no such step"),
    *_OF_ANY_N_REQUEST,
    Meaning(PROCESSING_FAILURE, "processing failure", "our own failure", "Error Comment"),
)
"""Statuses of N-GET responses (PS3.7 10.1.2, PS3.4 Table F.8.2-2)."""


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
