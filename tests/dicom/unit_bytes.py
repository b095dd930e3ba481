"""What a unit says on a connection, as bytes: encoded by pynetdicom, for whoever has no association but a socket."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.dimse_messages import C_CANCEL_RQ, C_ECHO_RQ, C_FIND_RQ, N_CREATE_RQ, N_GET_RQ, N_SET_RQ
from pynetdicom.dimse_primitives import C_CANCEL, C_ECHO, C_FIND, N_CREATE, N_GET, N_SET
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from gateway.dicom.association import PERFORMED_STEP, RETRIEVE, VERIFICATION, WORKLIST
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

ECHO, FIND, STEP, GET = 1, 3, 5, 7
"""The presentation contexts that `associate` proposes."""

RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))


def associate(
    called: str = "ORTHANC_MWL",
    calling: str = "MAMMO1",
    syntaxes: Sequence[str] = (IMPLICIT_VR_LITTLE_ENDIAN,),
    maximum_length: int = 16_382,
) -> bytes:
    """An A-ASSOCIATE-RQ for everything we serve."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.called_ae_title, request.calling_ae_title = called, calling
    contexts = []
    for context_id, service in zip((ECHO, FIND, STEP, GET), (VERIFICATION, WORKLIST, PERFORMED_STEP, RETRIEVE), strict=True):
        context = build_context(service.uid, list(syntaxes))
        context.context_id = context_id
        contexts.append(context)
    request.presentation_context_definition_list = contexts
    length, class_uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum_length
    class_uid.implementation_class_uid = "1.2.826.0.1.3680043.8.498.1"
    request.user_information = [length, class_uid]
    encoded: bytes = A_ASSOCIATE_RQ(request).encode()
    return encoded


def echo(message_id: int = 1) -> bytes:
    """A C-ECHO-RQ."""
    primitive = C_ECHO()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID = VERIFICATION.uid
    return _pdus(C_ECHO_RQ(), primitive, ECHO)


def find(identifier: Dataset, message_id: int = 2, syntax: str = IMPLICIT_VR_LITTLE_ENDIAN, pdu: int = 16_382) -> bytes:
    """A C-FIND-RQ of the worklist."""
    primitive = C_FIND()
    primitive.MessageID, primitive.Priority = message_id, 2
    primitive.AffectedSOPClassUID = WORKLIST.uid
    primitive.Identifier = _stream(identifier, syntax)
    return _pdus(C_FIND_RQ(), primitive, FIND, pdu)


def cancel(message_id: int = 2) -> bytes:
    """A C-CANCEL-RQ of that query."""
    primitive = C_CANCEL()
    primitive.MessageIDBeingRespondedTo = message_id
    return _pdus(C_CANCEL_RQ(), primitive, FIND)


def create(
    uid: str, attributes: Dataset, message_id: int = 3, syntax: str = IMPLICIT_VR_LITTLE_ENDIAN, pdu: int = 16_382
) -> bytes:
    """An N-CREATE-RQ of a performed procedure step."""
    primitive = N_CREATE()
    primitive.MessageID = message_id
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = PERFORMED_STEP.uid, uid
    primitive.AttributeList = _stream(attributes, syntax)
    return _pdus(N_CREATE_RQ(), primitive, STEP, pdu)


def change(uid: str, changes: Dataset, message_id: int = 4, syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """An N-SET-RQ."""
    primitive = N_SET()
    primitive.MessageID = message_id
    primitive.RequestedSOPClassUID, primitive.RequestedSOPInstanceUID = PERFORMED_STEP.uid, uid
    primitive.ModificationList = _stream(changes, syntax)
    return _pdus(N_SET_RQ(), primitive, STEP)


def get(uid: str, tags: Sequence[int] = (), message_id: int = 5) -> bytes:
    """An N-GET-RQ of these attributes, or of all."""
    primitive = N_GET()
    primitive.MessageID = message_id
    primitive.RequestedSOPClassUID, primitive.RequestedSOPInstanceUID = RETRIEVE.uid, uid
    if tags:
        primitive.AttributeIdentifierList = list(tags)
    return _pdus(N_GET_RQ(), primitive, GET)


def _stream(data_set: Dataset, syntax: str) -> BytesIO:
    encoded = encode(data_set, syntax == IMPLICIT_VR_LITTLE_ENDIAN, True)
    assert encoded is not None
    return BytesIO(encoded)


def _pdus(message: Any, primitive: Any, context_id: int, pdu: int = 16_382) -> bytes:
    message.primitive_to_message(primitive)
    return b"".join(P_DATA_TF(fragment).encode() for fragment in message.encode_msg(context_id, pdu))
