"""An explained query as a person reads it, and as a program does; values that may identify somebody are masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from gateway.dicom.data_set import tag_name
from gateway.dicom.explain import Explanation, ItemExplained, Reason, Shown, Site, identifies, outcome, refusals
from gateway.dicom.keys import PATIENT_ID
from gateway.dicom.record import Query
from gateway.domain.masking import masked_id, masked_key


def plain(_: int, value: str) -> str:
    """A value as it is."""
    return value


def masked(tag: int, value: str) -> str:
    """A value with what identifies somebody masked."""
    if not identifies(tag):
        return value
    return masked_id(value) if tag == PATIENT_ID else masked_key(value)


def head(explanation: Explanation, site: Site, shown: Shown) -> Iterator[tuple[str, str]]:
    """Who asked what and when, and what the answer was: labels ("" goes on with the one before) and texts."""
    asked = explanation.query
    for number, key in enumerate(explanation.keys):
        label = "keys" if number == 0 else ""
        yield label, f"{key.keyword} {tag_name(key.tag)} = {shown(key.tag, key.value)}"
    if not (explanation.keys or explanation.refusal or explanation.not_kept):
        yield "keys", "none that is matched by: it asked for everything that is listed"
    if explanation.ignored:
        yield "ignored", f"{', '.join(explanation.ignored)}: not a matching key there (PS3.4 K.2.2.1.1.2)"
    yield "charset", explanation.character_set or "none declared: ASCII"
    if explanation.not_kept:
        yield "not kept", f"{explanation.not_kept}: why items were listed can't be said"
    if explanation.refusal:
        yield "refused", f"{explanation.refusal}: such a query lists nothing"
    yield "answer", f"{items(asked.answers)}, {outcome(asked)}"
    if explanation.refused_since:
        yield "since", refusals(explanation.refused_since, site)


def asker(asked: Query, site: Site) -> str:
    """Who asked whom from where, and when."""
    often = "" if asked.times == 1 else f" ({asked.times} times since {site.clock(asked.at)}, answered alike)"
    span = f"{site.clock(asked.last_at)}{often}, query {asked.id}"
    return f"{asked.calling_ae_title} asked {asked.called_ae_title} from {asked.address} at {span}"


def looked_at(explanation: Explanation) -> str:
    """How many items were looked at, and of which days."""
    if explanation.days is None:
        return f"{items(len(explanation.items))} looked at"
    first, last = explanation.days
    return f"{items(len(explanation.items))} looked at, of {first if first == last else f'{first} to {last}'}"


def listed(item: ItemExplained, *, then: bool = False) -> str:
    """Whether it was in the answer, and is by the worklist that is looked at (of now, or `then`) where that differs."""
    is_listed = "yes" if item.listed else "no"
    if item.answered in (None, item.listed):
        return is_listed
    return f"{'yes' if item.answered else 'no'}, {'then' if then else 'now'} {is_listed}"


def why(item: ItemExplained, shown: Shown) -> list[str]:
    """Each reason in plain words; one sentence also where there is none."""
    told = [reason.text(shown) for reason in item.reasons]
    told += [item.since_then] if item.since_then else []
    return told or ["every key matches"]


def items(number: int) -> str:
    """`1 item`, `2 items`."""
    return f"{number} item{'' if number == 1 else 's'}"


def as_json(explanation: Explanation, shown: Shown) -> dict[str, object]:
    """All of it, for programs."""
    return {
        "query": query_as_json(explanation.query),
        "keys": [
            {"keyword": key.keyword, "tag": tag_name(key.tag), "value": shown(key.tag, key.value)}
            for key in explanation.keys
        ],
        "ignored": list(explanation.ignored),
        "character_set": explanation.character_set,
        "refusal": explanation.refusal,
        "not_kept": explanation.not_kept,
        "refused_since": [asdict(refused) for refused in explanation.refused_since],
        "days": list(explanation.days) if explanation.days else None,
        "items": [
            asdict(item) | {"reasons": [_reason(reason, shown) for reason in item.reasons]}
            for item in explanation.items
        ],
    }


def _reason(reason: Reason, shown: Shown) -> dict[str, object]:
    return {
        "tags": [tag_name(tag) for tag in reason.tags],
        "asked": shown(reason.tags[0], reason.asked) if reason.tags else reason.asked,
        "has": shown(reason.tags[0], reason.has) if reason.tags else reason.has,
        "clause": reason.clause,
        "text": reason.text(shown),
    }


def query_as_json(query: Query) -> dict[str, object]:
    """All but the identifier, which may name a patient."""
    values = asdict(query)
    for name in ("identifier", "key_id", "sealed"):
        del values[name]
    return {"id": values.pop("id"), **values, "status": f"0x{query.status:04X}"}
