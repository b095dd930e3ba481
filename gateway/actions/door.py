"""The door for actions: a frame in, a reply out, always. What is refused is kept, with code and field.

The order of the questions: is it readable at all, is it echo or health, has it a usable action_id, do we know the
action, are its values right, and then the use case.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from gateway import __version__
from gateway.actions import messages
from gateway.actions.limits import Allowance
from gateway.actions.messages import (
    DEEPEST,
    MAXIMUM_SIZE,
    CancelItem,
    CreateItem,
    UpdateItem,
    UpdateStatus,
    WorklistMessage,
)
from gateway.actions.replies import TRY_AGAIN, Done, Failed, HealthReport, Reply
from gateway.actions.times import SiteClock
from gateway.actions.translation import appointment_of, changes_of
from gateway.application import Gateway
from gateway.domain import values
from gateway.domain.relay_action import ActionReply, ActionRequest
from gateway.errors import GatewayError, InvalidValue, Refusal
from gateway.log import get_logger
from gateway.tally import Tally

REHEARSAL = "gateway-rehearsal"
"""The `source_system` of a rehearsal, which takes the test item that it sends as a modality, too."""

_LOOKS = ("echo", "health")
_LOOK = re.compile(r'"(echo|health)"')
_LARGEST_LOOK = 4 * 1024
"""Characters; a larger frame is not looked into on the way to a thread."""

_KEPT = 16 * 1024
_ACTION_TYPE = re.compile(r"[a-z_-]+(\.[a-z_-]+)*")

log = get_logger(__name__)


class Malformed(Refusal):
    """The message is not a JSON object of a size we take."""

    code = "malformed"


class UnsupportedVersion(Refusal):
    """The message has a schema_version we do not know."""

    code = "unsupported_version"


class UnsupportedAction(Refusal):
    """There is no such action."""

    code = "unsupported_action"


class ActionDoor:
    """Answers the web app's messages from the application. Blocking: call it off the event loop.

    `health` gives the present state for the `health` action. `on_test_item` is told the accession number of each new
    test item that its sender does not perform, in the sender's thread: it must not wait for anything.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: SiteClock,
        health: Callable[[], HealthReport],
        on_test_item: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gateway = gateway
        self._clock = clock
        self._health = health
        self._on_test_item = on_test_item
        self._unidentified = Allowance(burst=100, per_minute=60)
        self.answered = Tally()
        """Answers by action (`other`: none that there is) and by status or error code, since the start."""

    def answer(self, frame: str | bytes, received_at: datetime | None = None) -> str:
        """The reply to one frame, whatever it holds."""
        received = (received_at or datetime.now(UTC)).isoformat()
        message: dict[str, Any] = {}
        try:
            message = _parsed(frame)
            reply: Reply = self._reply(message, frame, received)
        except Refusal as refusal:
            reply = self._refused(frame, message, refusal, received)
        except GatewayError as error:
            log.error(
                "action_failed", phase="handle", code=error.code, error=str(error), action_id=_claimed_id(message)
            )
            reply = _failure(message, received)
        except Exception:
            log.exception("action_failed", phase="handle", action_id=_claimed_id(message))
            reply = _failure(message, received)
        self.answered.count(_known_type(message), _outcome(reply))
        return json.dumps(reply)

    @staticmethod
    def only_looks(frame: str | bytes) -> bool:
        """Whether a frame asks for `echo` or `health`: these are answered whatever holds up what is saved."""
        if isinstance(frame, bytes) or len(frame) > _LARGEST_LOOK or not _LOOK.search(frame):
            return False
        try:
            return _parsed(frame).get("action_type") in _LOOKS
        except Refusal:
            return False

    def _reply(self, message: dict[str, Any], frame: str | bytes, received: str) -> Reply:
        action_type = message.get("action_type")
        if action_type == "echo":
            return {"status": "echo", "payload": message}
        if action_type == "health":
            return {
                "status": "ok",
                "action_id": _claimed_id(message),
                "health": self._health(),
                "received_at": received,
                "gateway_version": __version__,
            }
        request = _request(message, frame, received)
        try:
            _require_version(message)
            reply = self._do(_modelled(message), request)
        except Refusal as refusal:
            reply = self._gateway.reject(request, refusal, accession_number=_claimed_accession(message))
        if reply.accession_number and _is_to_be_performed(message, reply):
            self._on_test_item(reply.accession_number)
        log.info(
            "action_answered",
            action_id=request.action_id,
            action_type=request.action_type,
            status=reply.status,
            code=reply.code,
            field=reply.field,
            accession_number=reply.accession_number,
            duplicate=reply.duplicate,
        )
        return _wire(reply, request.action_id, request.action_type)

    def _do(self, message: WorklistMessage, request: ActionRequest) -> ActionReply:
        match message:
            case CreateItem():
                appointment = appointment_of(message.parameters.worklist_item, self._clock)
                warning = values.patient_id_warning(appointment.patient_id)
                if warning:
                    log.warning("patient_id_odd", accession_number=appointment.accession_number, finding=warning)
                is_test = message.action_type == "worklist.create_test_item"
                return self._gateway.schedule(appointment, is_test=is_test, request=request)
            case UpdateItem():
                update = message.parameters.worklist_item
                return self._gateway.amend(update.accession_number, changes_of(update, self._clock), request=request)
            case UpdateStatus():
                changed = message.parameters.worklist_item
                return self._gateway.report_status(changed.accession_number, changed.wanted(), request=request)
            case CancelItem():
                cancelled = message.parameters.worklist_item
                return self._gateway.cancel(cancelled.accession_number, cancelled.reason, request=request)

    def _refused(self, frame: str | bytes, message: dict[str, Any], refusal: Refusal, received: str) -> Reply:
        """The answer to a message without a usable action_id; kept under a random one, not without bound."""
        log.warning("message_refused", code=refusal.code, field=refusal.field, size=len(frame))
        if self._unidentified.take():
            request = ActionRequest(
                action_id="",
                action_type=_named_type(message),
                digest="",
                text=_kept(frame),
                received_at=received,
            )
            try:
                self._gateway.reject_unidentified(request, refusal)
            except GatewayError as error:
                log.error("refusal_not_kept", code=error.code, error=str(error))
            except Exception:
                log.exception("refusal_not_kept")
        else:
            log.warning("refusal_not_kept", reason="too many messages without a usable action_id")
        reply = ActionReply(
            status="error", code=refusal.code, message=refusal.message, field=refusal.field, received_at=received
        )
        return _wire(reply, _claimed_id(message))


def digest_of(message: dict[str, Any]) -> str:
    """SHA-256 over action_type and parameters as canonical JSON: what makes two requests the same (design §3.4)."""
    content = {"action_type": message.get("action_type"), "parameters": message.get("parameters")}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parsed(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        raise Malformed("the message is binary, not a text frame")
    if len(frame) > MAXIMUM_SIZE or len(frame.encode("utf-8", "surrogatepass")) > MAXIMUM_SIZE:
        raise Malformed(f"the message is larger than {MAXIMUM_SIZE} bytes")
    try:
        message = json.loads(frame, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except ValueError:
        raise Malformed("the message is not JSON") from None
    if not isinstance(message, dict):
        raise Malformed("the message is not a JSON object")
    if frame.count("{") + frame.count("[") > DEEPEST and _depth(message) > DEEPEST:
        raise Malformed(_TOO_DEEP)
    return message


_TOO_DEEP = f"the message is nested more than {DEEPEST} deep"


def _no_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    """A number; one that overflows would be repeated as Infinity, which is not JSON."""
    number = float(text)
    if math.isinf(number):
        raise Malformed("a number in the message is too large")
    return number


def _depth(message: dict[str, Any]) -> int:
    depth = 0
    level: list[dict[str, Any] | list[Any]] = [message]
    while level:
        depth += 1
        within = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        level = [inner for inner in within if isinstance(inner, dict | list)]
    return depth


def _request(message: dict[str, Any], frame: str | bytes, received: str) -> ActionRequest:
    action_id = message.get("action_id")
    if action_id is None:
        raise InvalidValue("action_id: is required", field="action_id")
    if not isinstance(action_id, str) or not action_id.strip() or len(action_id) > messages.ACTION_ID_LIMIT:
        raise InvalidValue(f"action_id: must be 1 to {messages.ACTION_ID_LIMIT} characters", field="action_id")
    if not action_id.isprintable():
        raise InvalidValue("action_id: no control characters", field="action_id")
    return ActionRequest(
        action_id=action_id,
        action_type=_named_type(message),
        digest=digest_of(message),
        text=_kept(frame),
        received_at=received,
    )


def _require_version(message: dict[str, Any]) -> None:
    version = message.get("schema_version", 1)
    if isinstance(version, bool) or str(version).split(".")[0] != "1":
        raise UnsupportedVersion("schema_version: only 1 is known", field="schema_version")


def _modelled(message: dict[str, Any]) -> WorklistMessage:
    action_type = message.get("action_type")
    model = messages.MODELS.get(action_type) if isinstance(action_type, str) else None
    if model is None:
        raise UnsupportedAction("action_type: there is no such action", field="action_type")
    try:
        return model.model_validate(message)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> InvalidValue:
    """The first thing that is wrong, by its path in the message; never its value."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(part for part in first["loc"] if isinstance(part, str))
    cause = first.get("ctx", {}).get("error")
    text = str(getattr(cause, "message", cause)) if cause else f"{path.rsplit('.', 1)[-1]}: {_plain(first['type'])}"
    domain_field = getattr(cause, "field", None) or text.split(":", 1)[0]
    return InvalidValue(text, field=messages.PATHS.get(domain_field, path) if path.endswith("scheduled") else path)


def _plain(error_type: str) -> str:
    words = {
        "missing": "is required",
        "string_type": "must be a string",
        "list_type": "must be a string or a list of strings",
        "model_type": "must be an object",
        "model_attributes_type": "must be an object",
        "string_too_long": "is too long",
    }
    return words.get(error_type, "is not what it should be")


def _wire(reply: ActionReply, action_id: str | None, action_type: str = "") -> Done | Failed:
    told: Done | Failed
    if reply.status == "error":
        told = {
            "status": "error",
            "action_id": action_id,
            "message": reply.message,
            "code": reply.code or "internal",
            "field": messages.path_of(reply.field, action_type) if reply.field else None,
            "retryable": reply.retryable,
        }
    else:
        told = {"status": reply.status, "action_id": action_id}
        if reply.accession_number:
            told["accession_number"] = reply.accession_number
    if reply.duplicate:
        told["duplicate"] = True
    told["received_at"] = reply.received_at
    told["gateway_version"] = __version__
    return told


def _failure(message: dict[str, Any], received: str) -> Done | Failed:
    reply = ActionReply(
        status="error",
        code="internal",
        message=TRY_AGAIN,
        retryable=True,
        received_at=received,
    )
    return _wire(reply, _claimed_id(message))


def _known_type(message: dict[str, Any]) -> str:
    action_type = message.get("action_type")
    return action_type if isinstance(action_type, str) and action_type in (*messages.MODELS, *_LOOKS) else "other"


def _outcome(reply: Reply) -> str:
    told: Mapping[str, Any] = reply
    return str(told.get("code") or told["status"])


def _is_to_be_performed(message: dict[str, Any], reply: ActionReply) -> bool:
    """Whether it made a test item that waits for an emulated modality."""
    is_new = reply.status == "created" and not reply.duplicate
    is_test = message.get("action_type") == "worklist.create_test_item"
    return is_new and is_test and message.get("source_system") != REHEARSAL


def _named_type(message: dict[str, Any]) -> str:
    """The action_type for log and timeline, which identify nobody: only if it can be the name of an action."""
    action_type = message.get("action_type")
    named = isinstance(action_type, str) and len(action_type) <= 64 and _ACTION_TYPE.fullmatch(action_type)
    return action_type if isinstance(action_type, str) and named else ""


def _claimed_id(message: dict[str, Any]) -> str | None:
    action_id = message.get("action_id")
    return action_id[: messages.ACTION_ID_LIMIT] if isinstance(action_id, str) else None


def _claimed_accession(message: dict[str, Any]) -> str | None:
    """The accession number of a message that is refused, for its timeline, if it is one."""
    try:
        return values.accession_number(message["parameters"]["worklist_item"]["accession_number"])
    except (KeyError, TypeError, AttributeError, InvalidValue):
        return None


def _kept(frame: str | bytes) -> str:
    """The message as received, for the record; of a large one its beginning, size and hash."""
    raw = frame if isinstance(frame, bytes) else frame.encode("utf-8", "replace")
    if isinstance(frame, str) and len(raw) <= MAXIMUM_SIZE:
        return raw.decode("utf-8")
    return f"{len(raw)} bytes, SHA-256 {hashlib.sha256(raw).hexdigest()}, begins: {raw[:_KEPT]!a}"
