"""The engine on pynetdicom's threads: an association server that hands everything to a `Responder`.

What pynetdicom cannot do stays undone here (the conformance notes name it): N-ACTION and N-DELETE abort, a C-CANCEL in
the same segment as its query is lost, an unknown application context name is accepted.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, TypeVar

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import encode

from gateway.dicom import (
    command_set,
    toolkit,  # noqa: F401  it sets pynetdicom right
)
from gateway.dicom.association import (
    ANNOUNCED_PDU_LENGTH,
    DEFAULTS,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    PERFORMED_STEP,
    RETRIEVE,
    SOP_CLASSES,
    WORKLIST,
    AcceptorOptions,
)
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import TRANSFER_SYNTAXES
from gateway.dicom.find import FindResponse
from gateway.dicom.pynetdicom_sockets import Intake, Sockets
from gateway.dicom.responder import Responder
from gateway.dicom.status import PENDING, SUCCESS
from gateway.dicom.step_scp import NResponse
from gateway.dicom.tls import TlsPortUnusable

_Answer = TypeVar("_Answer")

MOST_ASSOCIATIONS = 200
"""Associations that this engine has threads for, whatever it is allowed: idle ones, too, keep a core busy."""

_MOMENT = 1.0
"""Seconds an idle association is given to end by itself when the service stops."""

_ACCEPT_POLL = 0.1
"""Seconds between looks whether to stop accepting."""

_UNSENT = 64
"""PDUs that may wait to be sent on one association."""

_UNSENT_POLL = 0.005
"""Seconds between looks whether they are fewer."""

_LAST_WORDS = 0.5
"""Seconds that a peer which talked nonsense may still hold its connection."""

_PERMANENT = 1
"""Result of an A-ASSOCIATE-RJ: asking again is no use (PS3.8 9.3.4)."""

_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
"""Result, source and reason of the rejection of one association too many: for the time being (PS3.8 9.3.4)."""

_ANSWERED = ("N-CREATE", "N-SET", "N-GET", "N-EVENT-REPORT")
_SERVED = {WORKLIST.uid: ("C-FIND",), PERFORMED_STEP.uid: _ANSWERED, RETRIEVE.uid: _ANSWERED}
"""What pynetdicom answers in a presentation context, be it with a refusal of ours; all else it aborts."""

_INVALID_PDU = "Evt19"
"""The state machine's event for an unrecognised or invalid PDU (PS3.8 Table 9-8)."""


class PynetdicomServer:
    """Listens for associations and answers them by `responder`."""

    def __init__(self, responder: Responder, options: AcceptorOptions = DEFAULTS) -> None:
        self.responder = responder
        self._options = options
        self._tls = options.tls
        self._servers: list[Sockets] = []
        """One for each door, the one for TLS last."""
        self._details: dict[tuple[Any, int], NResponse] = {}
        """What `_complete` adds to a response, by association and the message responded to."""
        self._serving: set[Any] = set()
        """The associations in the middle of an operation."""
        self._ae = AE(ae_title=options.ae_title)
        self._ae.require_called_aet = not options.accept_any_called_ae
        self._ae.maximum_associations = min(options.maximum_associations, MOST_ASSOCIATIONS)
        self._ae.acse_timeout = options.acse_timeout
        self._ae.network_timeout = options.idle_timeout
        self._ae.maximum_pdu_size = ANNOUNCED_PDU_LENGTH
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        for sop_class in SOP_CLASSES:
            self._ae.add_supported_context(sop_class.uid, list(TRANSFER_SYNTAXES))

    @property
    def port(self) -> int:
        """The port it listens on; before `start` the one asked for."""
        return int(self._servers[0].server_address[1]) if self._servers else self._options.port

    @property
    def tls_port(self) -> int | None:
        """The port for associations within TLS; None when there is none."""
        if self._tls is None:
            return None
        return int(self._servers[-1].server_address[1]) if self._servers else self._tls.port

    @property
    def listening(self) -> bool:
        """Whether associations are accepted."""
        return bool(self._servers)

    @property
    def open_associations(self) -> int:
        """How many connections there are, silent ones included."""
        return sum(_is_open(association) for association in self._ae.active_associations)

    def start(self) -> None:
        """Listen at all doors, or at none. Raises OSError, `TlsPortUnusable` for the TLS port, when it can't be had."""
        servers = [self._listening(self._options.port)]
        if self._tls:
            try:
                servers.append(self._listening(self._tls.port, self._tls.context))
            except OSError as error:
                servers[0].server_close()
                raise TlsPortUnusable(error.errno, error.strerror) from error
        self._servers = servers
        for server in servers:
            threading.Thread(
                target=server.serve_forever, args=(_ACCEPT_POLL,), name="dicom-acceptor", daemon=True
            ).start()

    def _listening(self, port: int, tls: ssl.SSLContext | None = None) -> Sockets:
        server: Sockets = self._ae.make_server(
            (self._options.host, port), evt_handlers=self._handlers(), server_class=Sockets
        )
        server.tls = tls
        server.handshake_timeout = self._ae.acse_timeout
        server.stall_timeout = self._options.stall_timeout
        server.broken = lambda address, reason: self.responder.connection_broken(address, reason=reason)
        return server

    def stop(self, deadline: float = 5.0) -> None:
        """Accept no more, let every association finish its present operation, close them; in `deadline` seconds."""
        servers, self._servers = self._servers, []
        end = time.monotonic() + deadline
        for server in servers:
            server.shutdown()
        busy = [association for association in self._ae.active_associations if association.is_established]
        for association in busy:
            association.network_timeout = 0  # looked at between operations only: it aborts when the present one is over
        for association in busy:
            self._wait_for(association, end)
        for association in self._ae.active_associations:
            association.dul.socket.close()

    def _wait_for(self, association: Any, end: float) -> None:  # noqa: ANN401  pynetdicom is untyped to us
        """Until it has ended by itself; one that only waits for the rest of a PDU is cut after a moment."""
        association.join(max(0.0, min(_MOMENT, end - time.monotonic())))
        if association.is_alive() and association not in self._serving:
            with contextlib.suppress(OSError, AttributeError):  # it has closed just now
                association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        association.join(max(0.0, end - time.monotonic()))

    def _handlers(self) -> list[tuple[Any, ...]]:
        return [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_DIMSE_RECV, self._message_received),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_FSM_TRANSITION, self._transition),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_CREATE, self._busy(self._n_create)),
            (evt.EVT_N_SET, self._busy(self._n_set)),
            (evt.EVT_N_GET, self._busy(self._n_get)),
            (evt.EVT_N_EVENT_REPORT, self._unrecognised, ["N-EVENT-REPORT"]),
            (evt.EVT_DIMSE_SENT, self._complete),
        ]

    # --- associations

    def _opened(self, event: Any) -> None:  # noqa: ANN401  pynetdicom is untyped to us
        address = _address(event)
        event.assoc.named_sop_classes = {}  # by message, where it is not that of the presentation context
        event.assoc.intake = Intake(
            event.assoc.dul.socket,
            lambda reason: self.responder.connection_broken(address, reason=reason),
            first_within=self._ae.acse_timeout,
            patience=self._options.stall_timeout,
        )

    def _requested(self, event: Any) -> None:  # noqa: ANN401
        """Reject whom the responder does not admit, and too many of one address.

        A wrong called AE title comes first, and is pynetdicom's to reject.
        """
        event.assoc.intake.requested()
        caller = _caller(event)
        if self._ae.require_called_aet and caller.called_ae_title != self._options.ae_title.strip():
            return
        rejection = self.responder.rejection(caller)
        if rejection:
            self.responder.association_refused(caller, reason=rejection.why, remedy=rejection.remedy)
            _reject(event, _PERMANENT, rejection.source, rejection.reason)
        elif self._from(caller.address) > self._options.maximum_associations_per_address:
            self.responder.association_refused(caller, reason="too many associations from this address")
            _reject(event, *_LOCAL_LIMIT_EXCEEDED)

    def _from(self, address: str) -> int:
        """How many connections there are from this address."""
        return sum(a.requestor.address == address and _is_open(a) for a in self._ae.active_associations)

    def _accepted(self, event: Any) -> None:  # noqa: ANN401  pynetdicom is untyped to us
        refused = [context.abstract_syntax.name for context in event.assoc.rejected_contexts]
        self.responder.association_accepted(_caller(event), refused_contexts=refused)

    def _rejected(self, event: Any) -> None:  # noqa: ANN401
        reason = event.assoc.acceptor.primitive.reason_str
        self.responder.association_refused(_caller(event), reason=reason)

    def _transition(self, event: Any) -> None:  # noqa: ANN401
        if event.fsm_event == _INVALID_PDU:
            self.responder.connection_broken(_address(event), reason="sent what is no DICOM PDU")
            event.assoc.intake.give_up(_LAST_WORDS)

    # --- operations

    def _message_received(self, event: Any) -> None:  # noqa: ANN401
        """A message is whole, and not yet decoded.

        pynetdicom serves a request by the SOP class it names, and would answer an N-CREATE of Verification as an echo.
        It is to be served by its presentation context; the name is kept for the responder to judge.
        """
        event.assoc.intake.message_received()
        command = event.message.command_set
        operation = command_set.NAMES.get(command.get("CommandField"))
        context = next((c for c in event.assoc.accepted_contexts if c.context_id == event.message.context_id), None)
        if operation is None or context is None or operation == "C-ECHO":
            return
        if operation not in _SERVED.get(str(context.abstract_syntax), ()):
            reason = f"sent {operation} in a presentation context of {context.abstract_syntax.name}"
            self.responder.association_aborted(_caller(event), reason=reason)
        keyword = "RequestedSOPClassUID" if "RequestedSOPClassUID" in command else "AffectedSOPClassUID"
        named = str(command.get(keyword, ""))
        if named != context.abstract_syntax:
            event.assoc.named_sop_classes[command.MessageID] = named
            setattr(command, keyword, context.abstract_syntax)

    def _sop_class(self, event: Any) -> str:  # noqa: ANN401
        """The SOP class that the request itself named."""
        named: dict[int, str] = event.assoc.named_sop_classes
        return named.pop(event.request.MessageID, str(event.context.abstract_syntax))

    def _busy(self, serve: Callable[[Any], _Answer]) -> Callable[[Any], _Answer]:
        """The operation, known to be under way while it lasts: a stop waits for it."""

        def serving(event: Any) -> _Answer:  # noqa: ANN401
            self._serving.add(event.assoc)
            try:
                return serve(event)
            finally:
                self._serving.discard(event.assoc)

        return serving

    def _echo(self, event: Any) -> int:  # noqa: ANN401
        return self.responder.echo(_caller(event))

    def _find(self, event: Any) -> Iterator[tuple[Dataset, None]]:  # noqa: ANN401
        """Pending responses are sent here, encoded as they are; pynetdicom itself sends the final one."""
        self._serving.add(event.assoc)
        try:
            yield from self._answers(event)
        finally:
            self._serving.discard(event.assoc)

    def _answers(self, event: Any) -> Iterator[tuple[Dataset, None]]:  # noqa: ANN401
        sop_class = self._sop_class(event)
        if sop_class != WORKLIST.uid:
            yield _find_status(self.responder.find_of_another_class(_caller(event))), None
            return
        responses = self.responder.find(
            _caller(event),
            _bytes(event.request.Identifier),
            str(event.context.transfer_syntax),
            _cancelled(event),
        )
        for response in responses:
            if event.assoc.acse.is_aborted():
                return
            if response.status == PENDING:
                _send_pending(event, response)
            elif response.status != SUCCESS:
                yield _find_status(response), None

    def _n_create(self, event: Any) -> tuple[Dataset, Dataset]:  # noqa: ANN401
        request = event.request
        uid = request.AffectedSOPInstanceUID
        response = self.responder.n_create(
            _caller(event),
            self._sop_class(event),
            str(uid) if uid else None,
            _bytes(request.AttributeList),
            str(event.context.transfer_syntax),
        )
        assigned = Dataset()
        if uid is None:
            assigned.AffectedSOPInstanceUID = response.sop_instance_uid
        return self._n_status(event, response), assigned

    def _n_set(self, event: Any) -> tuple[Dataset, None]:  # noqa: ANN401
        request = event.request
        response = self.responder.n_set(
            _caller(event),
            self._sop_class(event),
            str(request.RequestedSOPInstanceUID),
            _bytes(request.ModificationList),
            str(event.context.transfer_syntax),
        )
        return self._n_status(event, response), None

    def _n_get(self, event: Any) -> tuple[Dataset, None]:  # noqa: ANN401
        request = event.request
        response = self.responder.n_get(
            _caller(event),
            self._sop_class(event),
            str(request.RequestedSOPInstanceUID),
            _tags(request.AttributeIdentifierList),
            str(event.context.transfer_syntax),
        )
        return self._n_status(event, response), None

    def _unrecognised(self, event: Any, operation: str) -> tuple[Dataset, None]:  # noqa: ANN401
        request = event.request
        uid = getattr(request, "RequestedSOPInstanceUID", None) or getattr(request, "AffectedSOPInstanceUID", None)
        return self._n_status(event, self.responder.unrecognised(_caller(event), operation, str(uid or ""))), None

    def _n_status(self, event: Any, response: NResponse) -> Dataset:  # noqa: ANN401
        status = Dataset()
        status.Status = response.status
        if response.error_comment:
            status.ErrorComment = response.error_comment
        if response.error_id is not None:
            status.ErrorID = response.error_id
        if response.sop_instance_uid:
            status.AffectedSOPInstanceUID = response.sop_instance_uid
        if response.attribute_identifier_list or response.attribute_list:
            self._details[event.assoc, event.request.MessageID] = response
        return status

    def _complete(self, event: Any) -> None:  # noqa: ANN401
        """Add to a message, just before it is encoded, what pynetdicom leaves out, and data sets as we encoded them."""
        command = event.message.command_set
        response = self._details.pop((event.assoc, command.get("MessageIDBeingRespondedTo")), None)
        if response is None:
            return
        if response.attribute_identifier_list:
            command.AttributeIdentifierList = list(response.attribute_identifier_list)
        if response.attribute_list:
            event.message.data_set = BytesIO(response.attribute_list)
            command.CommandDataSetType = 0x0001
        del command.CommandGroupLength
        command.CommandGroupLength = len(encode(command, is_implicit_vr=True, is_little_endian=True))


def _caller(event: Any) -> Caller:  # noqa: ANN401
    requestor = event.assoc.requestor
    return Caller(
        str(requestor.primitive.calling_ae_title).strip(),
        str(requestor.primitive.called_ae_title).strip(),
        str(requestor.address),
        int(requestor.port),
    )


def _reject(event: Any, result: int, source: int, reason: int) -> None:  # noqa: ANN401
    """As pynetdicom rejects by itself: `kill` waits until the rejection has gone out."""
    event.assoc.acse.send_reject(result, source, reason)
    event.assoc.kill()


def _is_open(association: Any) -> bool:  # noqa: ANN401
    """Whether its connection is: its threads end a little later."""
    return association.dul.socket is not None and association.dul.socket.socket is not None


def _address(event: Any) -> str:  # noqa: ANN401
    return str(event.assoc.requestor.address)


def _bytes(stream: BytesIO | None) -> bytes | None:
    return None if stream is None else stream.getvalue()


def _tags(identifiers: Any) -> list[int]:  # noqa: ANN401
    """An Attribute Identifier List: none, one tag, or several."""
    if identifiers is None:
        return []
    return [int(tag) for tag in identifiers] if isinstance(identifiers, Sequence) else [int(identifiers)]


def _cancelled(event: Any) -> Callable[[], bool]:  # noqa: ANN401
    """Whether nobody waits for more answers: the peer cancelled, which pynetdicom tells once only, or is gone."""
    over = False

    def is_cancelled() -> bool:
        nonlocal over
        over = over or bool(event.is_cancelled) or bool(event.assoc.acse.is_aborted())
        return over

    return is_cancelled


def _send_pending(event: Any, response: FindResponse) -> None:  # noqa: ANN401
    _wait_for_room(event.assoc)
    message = C_FIND()
    message.MessageIDBeingRespondedTo = event.request.MessageID
    message.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    message.Status = response.status
    message.Identifier = BytesIO(response.identifier or b"")
    event.assoc.dimse.send_msg(message, event.context.context_id)


def _wait_for_room(association: Any) -> None:  # noqa: ANN401
    """Until few PDUs wait to be sent: pynetdicom would queue any number for a peer that reads slowly."""
    dul = association.dul
    while dul.to_provider_queue.qsize() > _UNSENT and dul.is_alive() and not association.acse.is_aborted():
        time.sleep(_UNSENT_POLL)


def _find_status(response: FindResponse) -> Dataset:
    status = Dataset()
    status.Status = response.status
    if response.error_comment:
        status.ErrorComment = response.error_comment
    if response.offending_elements:
        status.OffendingElement = list(response.offending_elements)
    return status
