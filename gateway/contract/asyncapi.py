"""The AsyncAPI 3 document: both hybrid connections, who sends what on which, and how one gets in.

It describes the gateway: it receives actions and replies, it sends events and is answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from gateway import __version__
from gateway.actions.messages import ACTION_ID_LIMIT, DEEPEST, MAXIMUM_SIZE
from gateway.actions.replies import ERROR_CODES
from gateway.contract.catalogue import MESSAGES, Kind, Message, sample
from gateway.contract.schemas import shared_schemas
from gateway.delivery.messages import WORDS

_SCHEMAS = "#/components/schemas"

_ABOUT = """\
The gateway shows a web app's appointments to modalities as a DICOM worklist, and tells the web app what becomes of \
each. Both dial out to Azure Relay: one hybrid connection brings actions, the other takes events. One rendezvous \
carries one JSON request in a text frame and one JSON reply, then the sender closes. Keys are only ever added: ignore \
those you do not know. docs/for-the-web-app-team.md has programs to begin with."""

_ACTIONS = f"""\
The gateway listens, the web app connects. A message has at most {MAXIMUM_SIZE} bytes and is at most {DEEPEST} deep, \
an action_id at most {ACTION_ID_LIMIT} characters; the reply comes within 30 s. What was answered is committed. The \
same action_id with the same content is done once and answered alike, with "duplicate": true."""

_EVENTS = """\
The web app listens, the gateway connects. In order for each accession number, again and again with growing waits \
until it is acknowledged; an acknowledgement that takes longer than 30 s is none. Drop an event_id you know and a \
sequence that is not above the last one of its accession number, and acknowledge it all the same."""


def document() -> dict[str, Any]:
    """The document, as JSON values."""
    references, definitions = shared_schemas(MESSAGES, _SCHEMAS)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Worklist gateway",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"relay": _server()},
        "channels": {
            "actions": _channel("worklist-actions", _ACTIONS, (Kind.ACTION, Kind.REPLY))
            | {"x-error-codes": {code: asdict(told) for code, told in ERROR_CODES.items()}},
            "events": _channel("worklist-events", _EVENTS, (Kind.EVENT, Kind.ACKNOWLEDGEMENT))
            | {"x-acknowledgements": WORDS},
        },
        "operations": {
            "answerAction": _operation("receive", "actions", Kind.ACTION, Kind.REPLY, "Do what the web app asks for."),
            "tellEvent": _operation("send", "events", Kind.EVENT, Kind.ACKNOWLEDGEMENT, "Tell what has happened."),
        },
        "components": {
            "messages": {message.name: _message(message, references[message.name]) for message in MESSAGES},
            "schemas": definitions,
            "securitySchemes": _security(),
        },
    }


def _server() -> dict[str, Any]:
    return {
        "host": "{namespace}.servicebus.windows.net",
        "protocol": "wss",
        "description": "An Azure Relay namespace. The local emulator (gateway relay emulate) is ws://127.0.0.1:9080.",
        "variables": {"namespace": {"description": "Name of the Azure Relay namespace."}},
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _security()],
    }


def _security() -> dict[str, Any]:
    return {
        "sharedAccessSignature": {
            "type": "httpApiKey",
            "name": "ServiceBusAuthorization",
            "in": "header",
            "description": "SharedAccessSignature sr=…&sig=…&se=…&skn=…: HMAC-SHA256 by the key of a shared access "
            "policy with the right Send (to connect) or Listen. The same may stand in the query as sb-hc-token.",
        },
        "entra": {
            "type": "oauth2",
            "description": "A Microsoft Entra token in the same header, for an identity with the role Azure Relay "
            "Sender (to connect) or Azure Relay Listener.",
            "flows": {
                "clientCredentials": {
                    "tokenUrl": "https://login.microsoftonline.com/organizations/oauth2/v2.0/token",
                    "availableScopes": {"https://relay.azure.net/.default": "what the identity's roles allow"},
                }
            },
        },
    }


def _channel(path: str, description: str, kinds: Iterable[Kind]) -> dict[str, Any]:
    return {
        "address": "/$hc/{path}",
        "description": description,
        "servers": [{"$ref": "#/servers/relay"}],
        "parameters": {"path": {"description": "Name of the hybrid connection.", "default": path}},
        "messages": {
            message.name: {"$ref": f"#/components/messages/{message.name}"} for kind in kinds for message in _of(kind)
        },
        "bindings": {
            "ws": {
                "query": {
                    "type": "object",
                    "required": ["sb-hc-action"],
                    "properties": {
                        "sb-hc-action": {"enum": ["connect", "listen"]},
                        "sb-hc-token": {"type": "string", "description": "In place of the header."},
                    },
                }
            }
        },
    }


def _operation(action: str, channel: str, asked: Kind, answered: Kind, summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [_in(channel, message) for message in _of(asked)],
        "reply": {
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [_in(channel, message) for message in _of(answered)],
        },
    }


def _in(channel: str, message: Message) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message.name}"}


def _message(message: Message, reference: str) -> dict[str, Any]:
    return {
        "name": message.name,
        "summary": message.summary,
        "payload": {"$ref": reference},
        "examples": [{"name": name, "payload": sample(message.kind, name)} for name in message.samples],
    }


def _of(kind: Kind) -> list[Message]:
    return [message for message in MESSAGES if message.kind is kind]
