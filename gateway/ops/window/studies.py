"""Studies that Orthanc received, and where each is sent on, without what identifies anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.ops.window.sources import Sources
from projections.received_studies import ReceivedStudyRow, RouteRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A study on its way to another modality. `state` is `waiting`, `failing` (tried again), `routed` or `abandoned`.

    `images` is how many were sent, `error` why the last try failed, in Orthanc's words.
    """

    orthanc_id: str
    study_instance_uid: str
    accession_number: str
    target: str
    rule: str
    state: str
    changed_at: str
    images: int | None
    error: str

    @property
    def is_open(self) -> bool:
        """Whether it is still to be sent."""
        return self.state in ("waiting", "failing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is in it, from which AE it came, by which keys it was matched, and where it is sent; times are UTC."""

    study_instance_uid: str
    accession_number: str
    received_at: str
    station_ae_title: str
    modalities: tuple[str, ...]
    series: int
    images: int
    matched_by: tuple[str, ...]
    routes: tuple[Routed, ...] = ()


def of_item(sources: Sources, accession_number: str) -> tuple[Study, ...]:
    """The studies of an item with their routes, the oldest first."""
    rows = sources.gateway.studies_of(accession_number)
    return tuple(study(row, sources.gateway.routes_of(row.orthanc_id)) for row in rows)


def study(row: ReceivedStudyRow, routes: Sequence[RouteRow] = ()) -> Study:
    """A study's line."""
    return Study(
        study_instance_uid=row.study_instance_uid,
        accession_number=row.accession_number,
        received_at=row.received_at,
        station_ae_title=row.station_ae_title,
        modalities=row.modalities,
        series=row.series,
        images=row.instances,
        matched_by=row.matched_by,
        routes=tuple(map(routed, routes)),
    )


def routed(row: RouteRow) -> Routed:
    """A route's line."""
    return Routed(
        orthanc_id=row.orthanc_id,
        study_instance_uid=row.study_instance_uid,
        accession_number=row.accession_number,
        target=row.target,
        rule=row.rule,
        state=row.state,
        changed_at=row.changed_at,
        images=row.instances,
        error=row.error or "",
    )
