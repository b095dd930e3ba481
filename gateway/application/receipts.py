"""Each request over the relay is answered once: its effect and its receipt are one transaction."""

from __future__ import annotations

from collections.abc import Callable

from gateway.application.deciding import Deciding, Decision
from gateway.domain.events import circumstances
from gateway.domain.relay_action import ActionReply, ActionRequest, RelayAction
from gateway.errors import ActionIdConflict, Refusal


class Receipts(Deciding):
    """The answers to the web app, kept with what they brought about; the same request again has the same answer."""

    def reject(self, request: ActionRequest, refusal: Refusal, *, accession_number: str | None = None) -> ActionReply:
        """Keep a request that can't even be tried, and answer it."""

        def decide() -> Decision[ActionReply]:
            raise refusal

        return self._answer(request, accession_number, decide)

    def reject_unidentified(
        self, request: ActionRequest, refusal: Refusal, *, accession_number: str | None = None
    ) -> ActionReply:
        """Keep a message that has no usable action_id, under a random one, and answer it."""
        reply = ActionReply.refused(refusal)
        receipt = RelayAction.reject_unidentified(request, reply, accession_number=accession_number)
        with circumstances(source="relay"):
            self.save(receipt)
        return receipt.reply

    def _answer(
        self,
        request: ActionRequest | None,
        accession_number: str | None,
        decide: Callable[[], Decision[ActionReply]],
        *,
        operator: str | None = None,
    ) -> ActionReply:
        if request is None:
            with circumstances(source="operator", correlation_id=operator):
                return self._retry(decide)
        with circumstances(source="relay", correlation_id=request.action_id):
            try:
                return self._retry(lambda: self._with_receipt(request, accession_number, decide))
            except ActionIdConflict as conflict:
                return self.reject_unidentified(request, conflict, accession_number=accession_number)

    def _with_receipt(
        self, request: ActionRequest, accession_number: str | None, decide: Callable[[], Decision[ActionReply]]
    ) -> Decision[ActionReply]:
        receipt = self._load(RelayAction, RelayAction.create_id(request.action_id))
        if receipt:
            return receipt.repeat(request), []
        try:
            reply, streams = decide()
        except Refusal as refusal:
            reply, streams = ActionReply.refused(refusal), []
        receipt = RelayAction.answer(request, reply, accession_number=accession_number)
        return receipt.reply, [*streams, receipt]
