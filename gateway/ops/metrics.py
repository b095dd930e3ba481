"""What the gateway knows of itself, for Prometheus: collected anew at each scrape, from health and a few tables.

Names begin with `worklist_gateway_` and follow Prometheus's convention: base units, `_total` for what only rises (since
this process started). No label is of a person: they are statuses, actions, codes, and AE titles, of which there are at
most `MOST_TITLES`. Test items, and callers that are tests, are left out. A value that is not known has no sample.
docs/alerts has rules over them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.actions.replies import HealthReport
from gateway.application import PROJECTIONS, Gateway
from gateway.audit.rhythm import Rhythm, clinic_hours, rhythms
from gateway.domain.lifecycle import Status
from gateway.errors import GatewayError
from gateway.eventstore import positions
from gateway.log import get_logger
from gateway.tally import Tally

if TYPE_CHECKING:
    from prometheus_client import Metric

PREFIX = "worklist_gateway_"
MOST_TITLES = 50
"""AE titles that are told of: those that asked last. Whoever may call can invent titles without end."""

_NEVER = float("inf")

log = get_logger(__name__)

Samples = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples by the values of its labels. A `counter` only rises."""

    name: str
    help: str
    samples: Samples
    labels: tuple[str, ...] = ()
    is_counter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What is counted where it happens, since this process started."""

    actions: Tally = field(default_factory=Tally)
    queries: Tally = field(default_factory=Tally)
    refused_associations: Tally = field(default_factory=Tally)
    step_messages: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Collects. Blocking: call it off the event loop."""

    gateway: Gateway
    health: Callable[[], HealthReport]
    counters: Counters
    zone: ZoneInfo
    last_backup: Callable[[], datetime | None]
    """When the last good backup was taken, by whomever."""
    test_ae_titles: tuple[str, ...] = ()

    def families(self) -> list[Family]:
        """Every metric, as things stand now. What can't be read is left out and logged: the rest is told."""
        report = self.health()
        found = [*_of_health(report), *_of_checks(report["checks"]), *_of_counters(self.counters)]
        for part in (self._of_worklist, self._of_projections, self._of_modalities, self._of_backups):
            try:
                found += part()
            except GatewayError as error:
                log.warning("metrics_incomplete", code=error.code, error=str(error))
        return found

    def _of_worklist(self) -> list[Family]:
        counts, now = self.gateway.count_by_status(), datetime.now(UTC)
        begun = [row.received_at for row in self.gateway.unfinished_steps(now)]
        position = self.gateway.check_store()
        return [
            _family("items", "Worklist items by status", _each(Status, counts), "status"),
            _family(
                "step_in_progress_oldest_age_seconds",
                "Since when the oldest performed step that is not finished is in progress, 0 without any",
                _age(min(begun), now) if begun else 0,
            ),
            _family("event_position", "Position of the last event of the log", position),
        ]

    def _of_projections(self) -> list[Family]:
        with self.gateway.reading() as connection:
            noted = positions.noted(connection.cursor())
        position = self.gateway.check_store()
        lags: Samples = {
            (projection.NAME,): max(0, position - _position(projection, noted)) for projection in PROJECTIONS
        }
        return [_family("projection_lag_events", "Events that a projection has not taken yet", lags, "projection")]

    def _of_modalities(self) -> list[Family]:
        now = datetime.now(UTC)
        with self.gateway.reading() as connection:
            found = rhythms(connection, now, leave_out=self.test_ae_titles)
        clinic = clinic_hours(self.gateway, self.zone, now)
        seen = sorted((each for each in found if each.silent_for is not None), key=_silence)[:MOST_TITLES]
        return [
            _family(
                "clinic_open",
                "1 from half an hour before the first to half an hour after the last appointment of today",
                clinic is not None and clinic[0] <= now <= clinic[1],
            ),
            _family(
                "modality_silence_seconds",
                "How long ago a modality asked last",
                {(each.ae_title,): _silence(each) for each in seen},
                "ae_title",
            ),
            _family(
                "modality_rhythm_seconds",
                "The usual time between two queries of a modality",
                {(each.ae_title,): each.usual_seconds for each in seen if each.usual_seconds is not None},
                "ae_title",
            ),
            _family(
                "modality_overdue_seconds",
                "Silence of a modality within the clinic's hours, when it is longer than its rhythm explains, else 0",
                {(each.ae_title,): each.overdue_for(now, clinic) for each in seen},
                "ae_title",
            ),
        ]

    def _of_backups(self) -> list[Family]:
        """Also where the service takes none itself: somebody else may, or nobody does, and then the alert is due."""
        taken_at = self.last_backup()
        age = (datetime.now(UTC) - taken_at).total_seconds() if taken_at else _NEVER
        return [_family("backup_age_seconds", "Age of the last good backup, +Inf without one", age)]


async def metrics_response(metrics: Metrics, request: Request) -> Response:
    """The answer to `GET /metrics`."""
    body, content_type = await asyncio.to_thread(exposition, metrics, request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


def exposition(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    """All metrics as the scraper wants them, and the content type; those of the process (`process_…`) with them."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


@dataclass(frozen=True, slots=True)
class _Collector:
    """As prometheus-client wants to be told."""

    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        """Each metric in its terms."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for family in self.metrics.families():
            kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            told = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.samples.items():
                told.add_metric(labels, value)
            yield told


# --- where they come from


def _of_health(report: HealthReport) -> list[Family]:
    checks = report["checks"]
    return [
        _family("build_info", "The version that runs", {(__version__,): 1}, "version"),
        _family("healthy", "1 when /health answers 200", report["healthy"]),
        _family("check_ok", "1 when a check of /health is well", _of_each(checks, lambda it: it["ok"]), "check"),
        _family(
            "check_warning",
            "1 when a check of /health warns, or is not well",
            _of_each(checks, lambda it: "warning" in it or not it["ok"]),
            "check",
        ),
    ]


def _of_checks(checks: dict[str, dict[str, Any]]) -> list[Family]:
    """What the checks tell in figures."""
    dicom, outbox, steps, disk = (checks.get(name, {}) for name in ("dicom", "outbox", "steps", "disk"))
    percent = disk.get("free_percent")
    return [
        *_of_relay(checks.get("relay", {})),
        _family("associations_open", "DICOM associations open now", dicom.get("open_associations")),
        _family("outbox_waiting", "Status events that the web app has not acknowledged", outbox.get("waiting")),
        _family(
            "outbox_oldest_age_seconds",
            "Since when the oldest of them waits, 0 without any",
            outbox.get("oldest_seconds", 0) if "waiting" in outbox else None,
        ),
        _family("outbox_parked", "Status events that the web app refused", outbox.get("parked")),
        _family("steps_unmatched", "Performed steps without an appointment", steps.get("unmatched")),
        _family("steps_unfinished", "Steps in progress for too long", steps.get("unfinished")),
        _family("disk_free_bytes", "Room on the disk of the database", disk.get("free_bytes")),
        _family("disk_free_ratio", "The same, as a part of the disk", None if percent is None else percent / 100),
    ]


def _of_relay(check: dict[str, Any]) -> list[Family]:
    now, state = datetime.now(UTC), check.get("state")
    is_configured = state != "not configured"
    round_trip, expires = check.get("round_trip_ms"), check.get("token_expires_at")
    proof = check.get("last_proof") or check.get("since")
    return [
        _family("relay_configured", "1 when there is a relay to hear", is_configured),
        _family(
            "relay_state",
            "1 for the state of the control channel",
            {(each,): each == state for each in ("connecting", "hearing", "deaf", "backing off", "stopped")},
            "state",
        ),
        _family(
            "relay_proof_age_seconds",
            "How long ago an echo to ourselves came back through the relay; before the first: since when it is tried",
            _age(proof, now) if proof and is_configured else None,
        ),
        _family("relay_round_trip_seconds", "How long that took", None if round_trip is None else round_trip / 1000),
        _family(
            "relay_reconnects_total",
            "Control channels opened after the first one",
            check.get("reconnects"),
            is_counter=True,
        ),
        _family(
            "relay_token_remaining_seconds",
            "How long the relay honours the present token",
            -_age(expires, now) if expires else None,
        ),
        _family(
            "relay_clock_skew_seconds",
            "How far our clock was ahead of the relay's when the control channel was opened",
            check.get("clock_skew_seconds"),
        ),
    ]


def _of_counters(counters: Counters) -> list[Family]:
    return [
        _family("actions_total", "Answered actions", counters.actions.counted(), "action", "outcome", is_counter=True),
        _family("queries_total", "Answered C-FIND requests", counters.queries.counted(), "status", is_counter=True),
        _family(
            "mpps_messages_total",
            "Answered MPPS messages",
            counters.step_messages.counted(),
            "operation",
            "status",
            is_counter=True,
        ),
        _family(
            "associations_refused_total",
            "Associations, or their proposals, that were turned down",
            sum(counters.refused_associations.counted().values()),
            is_counter=True,
        ),
    ]


# --- small things


def _family(name: str, meaning: str, told: Samples | float | None, *labels: str, is_counter: bool = False) -> Family:
    samples: Samples = {}
    if isinstance(told, Mapping):
        samples = told
    elif told is not None:
        samples = {(): float(told)}
    return Family(PREFIX + name, meaning, samples, labels, is_counter)


def _each(words: type[Status], counts: dict[str, int]) -> Samples:
    return {(word.value,): counts.get(word.value, 0) for word in words}


def _of_each(checks: dict[str, dict[str, Any]], tell: Callable[[dict[str, Any]], bool]) -> Samples:
    return {(name,): tell(check) for name, check in checks.items()}


def _position(projection: Any, noted: dict[str, tuple[int, int]]) -> int:  # noqa: ANN401  a projection's module
    version, position = noted.get(projection.NAME, (0, 0))
    return position if version == projection.VERSION else 0


def _silence(rhythm: Rhythm) -> float:
    return rhythm.silent_for or 0.0


def _age(instant: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(instant)).total_seconds()
