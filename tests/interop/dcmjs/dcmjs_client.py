"""npm's dcmjs-dimse as a client: JSON requests in, what it understood of the responses out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.dicom.engines import AssociationServer

HERE = Path(__file__).parent
MPPS = "1.2.840.10008.3.1.2.3.3"
MPPS_RETRIEVE = "1.2.840.10008.3.1.2.3.4"


@dataclass(frozen=True)
class Response:
    """One response as the client took it.

    Its command set is to be trusted for the first failure of an association only: the client carries Error Comment,
    Error ID and Offending Element over into later ones (seen in 0.3.3; Command Group Length shows that they were not
    on the wire).
    """

    status: int
    command: dict[str, Any]
    elements: dict[str, Any] | None


@dataclass(frozen=True)
class Conversation:
    """The responses to each request, and what else became of the association."""

    responses: list[list[Response]]
    events: list[dict[str, Any]]

    def statuses(self) -> list[list[int]]:
        return [[response.status for response in responses] for responses in self.responses]

    def answers(self, request: int = 0) -> list[dict[str, Any]]:
        return [response.elements for response in self.responses[request] if response.elements is not None]


@dataclass(frozen=True)
class Dcmjs:
    node: str

    def talk(self, server: AssociationServer, *requests: dict[str, Any], called: str = "ORTHANC_MWL") -> Conversation:
        """Send the requests one after the other over one association."""
        command = [self.node, "client.js", "127.0.0.1", str(server.port), "DCMJS", called]
        done = subprocess.run(
            command, cwd=HERE, input=json.dumps(requests), capture_output=True, text=True, timeout=60, check=True
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        responses: list[list[Response]] = [[] for _ in requests]
        for line in lines:
            if "index" in line:
                response = Response(line["status"], line["command"], line["elements"])
                responses[line["index"]].append(response)
        return Conversation(responses, [line for line in lines if "event" in line])


def echo() -> dict[str, Any]:
    return {"operation": "C-ECHO"}


def find(elements: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"operation": "C-FIND", "elements": elements, **options}


def create(instance: str, elements: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"operation": "N-CREATE", "sopClass": MPPS, "instance": instance, "elements": elements, **options}


def modify(instance: str, elements: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"operation": "N-SET", "sopClass": MPPS, "instance": instance, "elements": elements, **options}


def retrieve(instance: str, *attributes: str, sop_class: str = MPPS_RETRIEVE) -> dict[str, Any]:
    """Attributes are keywords; without any, all of them are wanted."""
    return {"operation": "N-GET", "sopClass": sop_class, "instance": instance, "attributes": list(attributes)}


def created(accession_number: str, study_instance_uid: str, **changes: Any) -> dict[str, Any]:
    """The attribute list of a proper N-CREATE."""
    step = {
        "StudyInstanceUID": study_instance_uid,
        "AccessionNumber": accession_number,
        "RequestedProcedureID": accession_number,
        "ScheduledProcedureStepID": accession_number,
    }
    values = {
        "ScheduledStepAttributesSequence": [step],
        "PatientName": "SMITH^JANE",
        "PatientID": "9990000034",
        "PatientBirthDate": "19650315",
        "PatientSex": "F",
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "DCMJS",
        "PerformedProcedureStepStartDate": "20261123",
        "PerformedProcedureStepStartTime": "100500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "Modality": "MG",
        "PerformedSeriesSequence": [],
    }
    return {**values, **changes}


def changed(status: str, **changes: Any) -> dict[str, Any]:
    """The modification list of a proper final N-SET."""
    values = {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20261123",
        "PerformedProcedureStepEndTime": "101500",
        "PerformedSeriesSequence": [{"ProtocolName": "Screening", "SeriesInstanceUID": "1.2.3.4"}],
    }
    return {**values, **changes}
