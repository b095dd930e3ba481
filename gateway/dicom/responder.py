"""What this worklist and MPPS provider answers: plain data in, plain data out. Engines drive it; it knows none of them.

An engine hands over what it took from the wire (bytes, UIDs, who calls) and sends what comes back. Every method may be
called from many threads and returns or yields an answer for anything: nothing raises. Logged are AE titles, addresses,
accession numbers, UIDs and keywords; never what identifies a patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import Protocol

from gateway.dicom.caller import Caller
from gateway.dicom.find import FindResponse
from gateway.dicom.prepared import PreparedItems
from gateway.dicom.profiles import EVERYBODY, Profiles, Rejection
from gateway.dicom.record import QueryRecord, RefusedAssociation, Retrieval, now
from gateway.dicom.status import (
    OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNISED_OPERATION,
)
from gateway.dicom.step_scp import NResponse, PerformedSteps, StepScp
from gateway.dicom.worklist_scp import Worklist, WorklistScp
from gateway.log import get_logger
from gateway.tally import Tally

_log = get_logger(__name__)

_ASK_THE_WORKLIST = "ask by the Modality Worklist information model (findscu -W), not by Query/Retrieve"


class Application(Worklist, PerformedSteps, Protocol):
    """What the modalities' door needs of `gateway.application.Gateway`."""


class Responder:
    """Verification, Modality Worklist and MPPS over the application.

    `listed_statuses` are what a query sees unless it asks by status; `test_ae_titles` the callers that see test items,
    beside the real ones; `profiles` how each caller is served; `zone` the site's. `record` is told of each query, each
    retrieved step and each refused association.
    """

    def __init__(
        self,
        application: Application,
        *,
        listed_statuses: Sequence[str] = ("SCHEDULED",),
        test_ae_titles: Iterable[str] = ("REHEARSAL",),
        profiles: Profiles = EVERYBODY,
        zone: tzinfo | None = None,
        record: QueryRecord | None = None,
    ) -> None:
        self.profiles = profiles
        self.record = record
        self._worklist = WorklistScp(
            application=application,
            listed_statuses=tuple(listed_statuses),
            test_ae_titles=frozenset(test_ae_titles),
            profiles=profiles,
            record=record,
            items=PreparedItems(zone),
        )
        self._steps = StepScp(application)
        self.step_messages = Tally()
        """MPPS messages by operation and status, since the start."""

    # --- associations

    def rejection(self, caller: Caller) -> Rejection | None:
        """Why this association must be rejected; None when it may be accepted. An engine asks before it answers."""
        return self.profiles.rejection(caller.ae_title, caller.address)

    def association_accepted(self, caller: Caller, *, refused_contexts: Sequence[str] = ()) -> None:
        """An association was accepted; `refused_contexts` are the abstract syntaxes that were not."""
        _log.info("association_accepted", **caller.logged())
        if refused_contexts:
            finds = [name for name in refused_contexts if "FIND" in name]
            remedy = {"remedy": _ASK_THE_WORKLIST} if finds else {}
            _log.warning("contexts_refused", **caller.logged(), abstract_syntaxes=list(refused_contexts), **remedy)
            if finds:
                self._record_refusal(caller, f"{', '.join(finds)} is not supported: {_ASK_THE_WORKLIST}")

    def association_refused(self, caller: Caller, *, reason: str, remedy: str = "") -> None:
        """An association was rejected (PS3.8 9.3.4)."""
        _log.warning("association_refused", **caller.logged(), reason=reason, **({"remedy": remedy} if remedy else {}))
        self._record_refusal(caller, f"{reason}; {remedy}" if remedy else reason)

    def connection_broken(self, address: str, *, reason: str) -> None:
        """A peer sent what is no DICOM, or stopped halfway."""
        _log.warning("connection_broken", address=address, reason=reason)
        self._record_refusal(Caller("", "", address, 0), reason)

    def association_aborted(self, caller: Caller, *, reason: str) -> None:
        """The peer asked for what this engine can only answer by an abort."""
        _log.warning("association_aborted", **caller.logged(), reason=reason)
        self._record_refusal(caller, reason)

    def _record_refusal(self, caller: Caller, reason: str) -> None:
        if self.record:
            self.record.add(
                RefusedAssociation(
                    at=now(),
                    calling_ae_title=caller.ae_title,
                    called_ae_title=caller.called_ae_title,
                    address=caller.address,
                    reason=reason,
                )
            )

    # --- Verification (PS3.4 Annex A)

    def echo(self, caller: Caller) -> int:
        """The status of a C-ECHO."""
        _log.info("echo_answered", **caller.logged())
        return SUCCESS

    # --- operations; what they take and answer is told by the two providers

    def find(
        self, caller: Caller, data: bytes | None, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        """The responses to a C-FIND, the last one final. `data` is the identifier as received."""
        return self._worklist.find(caller, data, transfer_syntax, is_cancelled)

    def is_quick(self, caller: Caller, data: bytes | None, transfer_syntax: str) -> bool:
        """Whether `find` with the same arguments may run where nothing must wait, such as on an event loop.

        True: an index serves it, it looks at few items, and each step of the generator computes about a millisecond at
        most, whatever the size of the worklist; it waits for no turn and does not rest. False: it may scan, wait and
        rest, up to many seconds; give it a thread. A query for one item, study or patient is quick, another one once an
        answer to it was; that a list has grown long since is found out by answering it: from the hundredth item on it
        may wait and rest. Asking costs microseconds for a query that was asked before, and what reading the identifier
        costs for another.
        """
        return self._worklist.is_quick(caller, data, transfer_syntax)

    def find_of_another_class(self, caller: Caller) -> FindResponse:
        """The response to a C-FIND that names another SOP class than its context has (PS3.7 9.1.2.1.5)."""
        _log.warning("query_refused", **caller.logged(), reason=_ASK_THE_WORKLIST)
        self._record_refusal(caller, f"C-FIND of another SOP class: {_ASK_THE_WORKLIST}")
        return FindResponse(SOP_CLASS_NOT_SUPPORTED, None, "only Modality Worklist is supported")

    def n_create(
        self, caller: Caller, sop_class_uid: str, sop_instance_uid: str | None, data: bytes | None, transfer_syntax: str
    ) -> NResponse:
        """The response to an N-CREATE. Without an instance UID in the request, one is assigned (PS3.7 10.1.5.1.4)."""
        response = self._steps.n_create(caller, sop_class_uid, sop_instance_uid, data, transfer_syntax)
        self.step_messages.count("N-CREATE", f"0x{response.status:04X}")
        return response

    def n_set(
        self, caller: Caller, sop_class_uid: str, sop_instance_uid: str, data: bytes | None, transfer_syntax: str
    ) -> NResponse:
        """The response to an N-SET."""
        response = self._steps.n_set(caller, sop_class_uid, sop_instance_uid, data, transfer_syntax)
        self.step_messages.count("N-SET", f"0x{response.status:04X}")
        return response

    def n_get(
        self,
        caller: Caller,
        sop_class_uid: str,
        sop_instance_uid: str,
        requested: Sequence[int],
        transfer_syntax: str,
    ) -> NResponse:
        """The response to an N-GET (MPPS Retrieve, PS3.4 F.8.2); `requested` is the Attribute Identifier List."""
        response = self._steps.n_get(caller, sop_class_uid, sop_instance_uid, requested, transfer_syntax)
        if self.record and response.status in (SUCCESS, OPTIONAL_ATTRIBUTES_NOT_SUPPORTED):
            self.record.add(
                Retrieval(
                    at=now(),
                    calling_ae_title=caller.ae_title,
                    called_ae_title=caller.called_ae_title,
                    address=caller.address,
                    sop_instance_uid=sop_instance_uid,
                )
            )
        return response

    def unrecognised(self, caller: Caller, operation: str, sop_instance_uid: str) -> NResponse:
        """The response to an operation that this SOP class does not have (PS3.7 C.5.23)."""
        return self._steps.unrecognised(caller, operation, sop_instance_uid)

    def out_of_place(self, caller: Caller, operation: str, sop_class_name: str, sop_instance_uid: str) -> NResponse:
        """The response to an operation that the SOP class of its presentation context does not have (PS3.7 C.5.23)."""
        reason = f"sent {operation} in a presentation context of {sop_class_name}"
        _log.warning("operation_out_of_place", **caller.logged(), reason=reason)
        self._record_refusal(caller, reason)
        return NResponse(UNRECOGNISED_OPERATION, sop_instance_uid, f"{operation} is not of this presentation context")
