"""The images in Orthanc: how its feed is followed, whose they are, those of nobody, and where they are sent on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request

import projections.received_studies
from gateway.domain.masking import masked_id, masked_name
from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.step import plain_name
from gateway.ops.window.studies import Routed, Study, routed, study
from gateway.ops.window.visits import Visit, reason_of, require_operator, reveal
from projections.received_studies import ReceivedStudyRow

SUBJECT = "images of nobody"
_MOST = 100
"""Of each kind that the page shows; `gateway images` and `gateway routes` list more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """A study of nobody on the list. `participant` and `patient_id` are the modality's words, masked unless revealed.

    `named` is the accession number that its images say, `unmatched` why that is no item's.
    """

    orthanc_id: str
    study_instance_uid: str
    received_at: str
    station_ae_title: str
    modalities: tuple[str, ...]
    images: int
    participant: str
    patient_id: str
    named: str
    unmatched: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A study that could not be read from Orthanc, and why."""

    orthanc_id: str
    why: str
    parked_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """`state` is the feed's, or `not configured`; `feed` and `routing` are as the service says.

    Of each list the newest, but of `parked` and of the routes that are open the oldest; `…_in_all` counts them.
    """

    state: str
    feed: dict[str, Any]
    routing: dict[str, Any]
    parked: tuple[Parked, ...]
    parked_in_all: int
    unmatched: tuple[Stranger, ...]
    unmatched_in_all: int
    latest: tuple[Study, ...]
    open_routes: tuple[Routed, ...]
    open_routes_in_all: int
    settled_routes: tuple[Routed, ...]
    seconds_revealed: int


def look(sources: Sources, given: Visit, _: Request) -> Images:
    """As they are now; also what is known from a time when an Orthanc was configured."""
    gateway, told, revealed = sources.gateway, sources.images(), given.seconds_revealed(SUBJECT)
    parked, open_routes = gateway.parked_studies(), gateway.open_routes()
    with gateway.reading() as connection:
        unmatched_in_all = projections.received_studies.count_unmatched(connection)
    return Images(
        state=str(told["state"]),
        feed=told.get("feed", {}),
        routing=told.get("routing", {}),
        parked=tuple(Parked(**asdict(row)) for row in parked[:_MOST]),
        parked_in_all=len(parked),
        unmatched=tuple(
            _stranger(row, reveal=given.shows(SUBJECT, row.study_instance_uid))
            for row in gateway.unmatched_studies(_MOST)
        ),
        unmatched_in_all=unmatched_in_all,
        latest=tuple(study(row) for row in gateway.latest_studies(_MOST)),
        open_routes=tuple(routed(row) for row in open_routes[:_MOST]),
        open_routes_in_all=len(open_routes),
        settled_routes=tuple(one for one in map(routed, gateway.routes(_MOST)) if not one.is_open),
        seconds_revealed=revealed,
    )


def _stranger(row: ReceivedStudyRow, *, reveal: bool) -> Stranger:
    return Stranger(
        orthanc_id=row.orthanc_id,
        study_instance_uid=row.study_instance_uid,
        received_at=row.received_at,
        station_ae_title=row.station_ae_title,
        modalities=row.modalities,
        images=row.instances,
        participant=plain_name(row.patient_name) if reveal else masked_name(row.patient_name),
        patient_id=row.patient_id if reveal else masked_id(row.patient_id),
        named=row.named,
        unmatched=row.unmatched,
    )


# --- acts


def _reveal(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    rows = sources.gateway.unmatched_studies(_MOST)
    subjects = dict.fromkeys(row.study_instance_uid for row in rows)
    held = [value for row in rows for value in (row.patient_name, row.patient_id)]
    reveal(sources, given, SUBJECT, list(subjects), held, reason_of(form))
    return "Names are shown to you for five minutes. That, and your reason, is kept."


def _dismiss(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    sources.gateway.dismiss_study(form.get("orthanc_id", ""), reason=reason_of(form), operator=given.visitor.name)
    return "The study is dismissed: it is kept, and no longer listed as nobody’s."


def _abandon(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    orthanc_id, target = form.get("orthanc_id", ""), form.get("target", "")
    sources.gateway.abandon_route(orthanc_id, target, reason=reason_of(form), operator=given.visitor.name)
    return f"The study is not sent to {target}. A job that Orthanc has begun goes on."


PAGES = (Page("/images", "images.html", "Images", look),)
ACTS: dict[str, Act] = {
    "/images/reveal": _reveal,
    "/images/dismiss": _dismiss,
    "/images/abandon": _abandon,
}
