"""The event that tells the web app of images, as it reads it (`GATEWAY_REPORT_IMAGES`)."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, cast

from pydantic import Field
from typing_extensions import TypedDict

from projections.outbox import IMAGES_RECEIVED, OutboxRow

__all__ = ["IMAGES_RECEIVED", "ImageCounts", "ImagesReceivedData", "ImagesReceivedEvent", "images_data"]


class ImageCounts(TypedDict):
    """What of the study has come so far, all of it counted."""

    series_count: int
    image_count: int
    modalities: Annotated[list[str], Field(description="Of its series, each once, such as MG.")]


class ImagesReceivedData(TypedDict):
    """Which item has which images."""

    action_id: Annotated[str | None, Field(description="Of the action that created the item; null: no action did.")]
    accession_number: Annotated[str, Field(max_length=16)]
    study_instance_uid: Annotated[str, Field(description="Of the images, which need not be the item's.")]
    images: ImageCounts
    occurred_at: Annotated[str, Field(description="When the gateway heard of them, UTC.")]
    test: NotRequired[Annotated[Literal[True], Field(description="The item is a test's; nobody was examined.")]]


class ImagesReceivedEvent(TypedDict):
    """`study.images_received`: images of an item have come; again when there are more. Otherwise as a status event."""

    schema_version: Literal[1]
    event_type: Literal["study.images_received"]
    timestamp: Annotated[str, Field(description="When it was sent first, UTC.")]
    source_system: Literal["gateway-mwl"]
    event_id: str
    sequence: Annotated[int, Field(ge=1, description="Counts with the status events of the accession number.")]
    attempt: Annotated[int, Field(ge=1)]
    data: ImagesReceivedData


def images_data(row: OutboxRow, occurred_at: str) -> ImagesReceivedData:
    """What the event tells; `occurred_at` as the web app reads instants."""
    data: ImagesReceivedData = {
        "action_id": row.action_id,
        "accession_number": row.accession_number,
        "study_instance_uid": row.study_instance_uid or "",
        "images": cast("ImageCounts", row.images),  # as the application has counted
        "occurred_at": occurred_at,
    }
    if row.is_test:
        data["test"] = True
    return data
