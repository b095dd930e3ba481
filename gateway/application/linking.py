"""Which item the keys of a step or of a study name (design §3.16)."""

from __future__ import annotations

import projections.worklist
from gateway.application.deciding import Deciding
from gateway.domain.performed_procedure_step import Reference
from gateway.domain.worklist_item import WorklistItem


class Linking(Deciding):
    """From the keys that a modality wrote to the item they are of."""

    def _referenced(self, reference: Reference, patient_id: str, what: str = "step") -> WorklistItem | str:
        """The item that these keys name, or why there is none; `what` has them (design §3.16)."""
        study, number = reference.study_instance_uid, reference.accession_number
        with self.reading() as connection:
            rows = projections.worklist.named(connection, study, (number, reference.scheduled_procedure_step_id))
        if not any(number == row.accession_number or (study and study == row.study_instance_uid) for row in rows):
            return f"no item has the accession number or the Study Instance UID of the {what}"
        if len(rows) > 1:
            return f"the keys of the {what} name two items"
        [(accession_number, _, item_patient_id)] = rows
        if patient_id and item_patient_id and patient_id != item_patient_id:
            return f"the {what} is of another patient than item {accession_number}"
        item = self._load(WorklistItem, WorklistItem.create_id(accession_number))
        if item and item.is_erased:
            return f"the person of item {accession_number} was erased"
        return item or f"no event explains item {accession_number}"
