"""A request that names another SOP class than its presentation context has: answered by its status, never as another's.

PS3.7 9.1.2.1.5 and 10.1.5.1.6 (0x0122 SOP class not supported), 10.1.3.1.9 (0x0119 class-instance conflict).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from dicom_samples import AE_TITLE, InMemory, captured_logs, created, hold, query, to_bytes
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_FIND, N_CREATE, N_GET, N_SET

from gateway.dicom.association import PERFORMED_STEP, RETRIEVE, VERIFICATION, WORKLIST
from gateway.dicom.engines import AssociationServer
from gateway.rehearsal.requestor import associate

UID, UNKNOWN, STUDY_ROOT = "1.2.3.4.5", "1.2.3.4", "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@contextmanager
def association(server: AssociationServer, sop_class: str) -> Iterator[Any]:
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = 10
    entity.add_requested_context(sop_class, IMPLICIT)
    peer = associate(entity, "127.0.0.1", server.port, ae_title=AE_TITLE)
    try:
        yield peer
    finally:
        if peer.is_established:
            peer.release()


def asked(peer: Any, request: Any) -> Any:
    """The response to a request as it is, or None when the association ended instead."""
    hold(peer)
    peer.dimse.send_msg(request, peer.accepted_contexts[0].context_id)
    _, response = peer.dimse.get_msg(block=True)
    peer._reactor_checkpoint.set()
    return response


def c_find(sop_class: str) -> C_FIND:
    request = C_FIND()
    request.MessageID, request.AffectedSOPClassUID, request.Priority = 1, sop_class, 2
    request.Identifier = BytesIO(to_bytes(query(AccessionNumber="")))
    return request


def n_create(sop_class: str) -> N_CREATE:
    request = N_CREATE()
    request.MessageID, request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = 1, sop_class, UID
    request.AttributeList = BytesIO(to_bytes(created()))
    return request


def n_set(sop_class: str) -> N_SET:
    request = N_SET()
    request.MessageID, request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = 1, sop_class, UID
    request.ModificationList = BytesIO(to_bytes(created()))
    return request


def n_get(sop_class: str) -> N_GET:
    request = N_GET()
    request.MessageID, request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = 1, sop_class, UID
    return request


@pytest.mark.parametrize("named", [VERIFICATION.uid, WORKLIST.uid, UNKNOWN])
def test_an_n_create_of_another_class_is_0122_and_nothing_is_kept(
    server: AssociationServer, application: InMemory, named: str
) -> None:
    with association(server, PERFORMED_STEP.uid) as peer:
        response = asked(peer, n_create(named))
        assert isinstance(response, N_CREATE)
        assert response.Status == 0x0122
        assert asked(peer, n_create(PERFORMED_STEP.uid)).Status == 0x0000, "the association goes on"
    assert list(application.reports) == [UID]


@pytest.mark.parametrize("request_of", [n_set, n_get])
@pytest.mark.parametrize("named", [VERIFICATION.uid, UNKNOWN])
def test_an_n_set_or_n_get_of_another_class_is_0119_when_the_instance_is_a_step_else_0122(
    server: AssociationServer, request_of: Any, named: str
) -> None:
    with association(server, PERFORMED_STEP.uid) as peer:
        assert asked(peer, request_of(named)).Status == 0x0122
        assert asked(peer, n_create(PERFORMED_STEP.uid)).Status == 0x0000
        response = asked(peer, request_of(named))
        assert (type(response), response.Status) == (type(request_of(named)), 0x0119)


def test_a_retrieve_may_come_in_the_context_of_the_step_itself(server: AssociationServer) -> None:
    with association(server, PERFORMED_STEP.uid) as peer:
        assert asked(peer, n_create(PERFORMED_STEP.uid)).Status == 0x0000
        assert asked(peer, n_get(RETRIEVE.uid)).Status == 0x0000


@pytest.mark.parametrize("named", [STUDY_ROOT, UNKNOWN, VERIFICATION.uid])
def test_a_c_find_of_another_class_is_0122_and_is_told_what_to_ask(server: AssociationServer, named: str) -> None:
    with captured_logs() as logs, association(server, WORKLIST.uid) as peer:
        response = asked(peer, c_find(named))
        assert isinstance(response, C_FIND)
        assert response.Status == 0x0122
    (line,) = [line for line in logs if line["event"] == "query_refused"]
    assert "ask by the Modality Worklist information model" in line["reason"]


@pytest.mark.parametrize(
    ("context", "request_of", "named", "told"),
    [
        (PERFORMED_STEP, c_find, WORKLIST, "sent C-FIND in a presentation context of Modality Performed Procedure"),
        (WORKLIST, n_create, PERFORMED_STEP, "sent N-CREATE in a presentation context of Modality Worklist"),
    ],
)
def test_an_operation_that_a_context_does_not_have_is_told_in_the_log(
    server: AssociationServer, application: InMemory, context: Any, request_of: Any, named: Any, told: str
) -> None:
    with captured_logs() as logs, association(server, context.uid) as peer:
        asked(peer, request_of(named.uid))
    (line,) = [line for line in logs if line["event"] in ("operation_out_of_place", "association_aborted")]
    assert line["reason"].startswith(told)
    assert not application.reports


@pytest.mark.parametrize(
    ("context", "request_of", "named"), [(PERFORMED_STEP, c_find, WORKLIST), (WORKLIST, n_create, PERFORMED_STEP)]
)
def test_it_is_0211_and_the_association_goes_on_c_5_23(
    server: AssociationServer, context: Any, request_of: Any, named: Any
) -> None:
    with association(server, context.uid) as peer:
        assert asked(peer, request_of(named.uid)).Status == 0x0211
        assert asked(peer, request_of(named.uid)).Status == 0x0211
