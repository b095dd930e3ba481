"""The metrics of `gateway.ops.metrics`, and warnings and errors of the log, to Azure Monitor (Application Insights).

Off without `APPLICATIONINSIGHTS_CONNECTION_STRING`. Microsoft's OpenTelemetry exporters carry them, from a thread, once
a minute; nothing is instrumented, nothing is stored on disk, and nothing of the exporters' own is sent: no usage
figures, no remote configuration. Whether an export arrived is told by the endpoint's answer, and stands in health.

Log lines are sent as they stand in the log, which names no person. While nothing arrives, the last `MOST_LINES` of
them wait in memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.errors import SettingsInvalid
from gateway.log import forward_warnings, get_logger
from gateway.ops.health import Check
from gateway.ops.metrics import Family
from gateway.settings import PROXY_WORDS, Settings, send_nothing_of_azure_monitor_s_own

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

INTERVAL = 60.0
"""Seconds between two exports."""
MOST_LINES = 1000
"""Log lines that wait at most; then the oldest are dropped."""

_PORTION = 500
_PATIENCE = 5.0
"""Seconds to connect, and seconds to be answered."""
_PACKAGE = "azure-monitor-opentelemetry"
_VARIABLE = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DEFAULT_ENDPOINT = "https://dc.services.visualstudio.com"

log = get_logger(__name__)

Line = dict[str, Any]
"""An entry of the log: `event`, `level`, `timestamp`, and what it tells."""


@dataclass(frozen=True, slots=True)
class Export:
    """How an export ended, by the endpoint's answer: `error` is "" when everything was accepted."""

    at: datetime
    endpoint: str
    items: int
    error: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to, and by which way out."""

    connection_string: str
    endpoint: str
    way_out: dict[str, Any]


class Telemetry:
    """Exports what `families` gives, and the log's warnings since the last time."""

    def __init__(self, destination: Destination, families: Callable[[], list[Family]]) -> None:
        self._destination = destination
        self._families = families
        self._lines: deque[Line] = deque(maxlen=MOST_LINES)
        self._lock = threading.Lock()
        self._before: dict[tuple[str, tuple[str, ...]], float] = {}
        self._azure_monitor: _AzureMonitor | None = None
        self.last: Export | None = None
        """How the last export ended."""

    async def run(self) -> None:
        """Export every minute until cancelled, and then once more, unless nobody took the last one."""
        stop_forwarding = forward_warnings(self.take)
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                await asyncio.to_thread(self.export)
        finally:
            stop_forwarding()
            if not (self.last and self.last.error):
                await asyncio.to_thread(self.export)

    def take(self, line: Line) -> None:
        """Keep an entry of the log for the next export; from any thread."""
        with self._lock:
            self._lines.append(line)

    def check(self) -> Check:
        """For health. Never a failure: modalities and web app are served without it; a warning tells of it."""
        last = self.last
        if last is None:
            return {"ok": True, "last": None}
        check: Check = {"ok": True, "last": last.at.isoformat(), "items": last.items, "endpoint": last.endpoint}
        return check | ({"warning": f"{last.error} → {last.remedy}"} if last.error else {})

    def export(self) -> Export:
        """Send everything that there is now. Blocking; raises nothing: what went wrong is in the answer."""
        failed_before = self.last is not None and bool(self.last.error)
        try:
            self.last = self._export()
        except Exception as error:
            log.exception("telemetry_failed")
            self.last = self._ended(0, f"unexpected {type(error).__name__}", "look at the log")
        if bool(self.last.error) != failed_before:
            self._say(self.last)
        return self.last

    def _export(self) -> Export:
        if self._azure_monitor is None:
            self._azure_monitor = _AzureMonitor(self._destination)
        samples = list(_samples(self._families(), self._before))
        trouble = self._azure_monitor.send_metrics(samples)
        count = len(samples)
        while not trouble and (portion := self._next_lines()):
            trouble = self._azure_monitor.send_lines(portion)
            if trouble:
                self._put_back(portion)
            count += len(portion)
        return self._ended(count, *trouble)

    def _ended(self, items: int, error: str = "", remedy: str = "") -> Export:
        return Export(datetime.now(UTC), self._destination.endpoint, items, error, remedy)

    def _say(self, export: Export) -> None:
        if export.error:
            log.warning("telemetry_not_exported", error=export.error, endpoint=export.endpoint, remedy=export.remedy)
        else:
            log.info("telemetry_exported", endpoint=export.endpoint, items=export.items)

    def _next_lines(self) -> list[Line]:
        with self._lock:
            return [self._lines.popleft() for _ in range(min(_PORTION, len(self._lines)))]

    def _put_back(self, portion: list[Line]) -> None:
        with self._lock:
            newer = [*self._lines]
            self._lines.clear()
            self._lines.extend([*portion, *newer])  # the oldest fall out when there are too many


def verify(settings: Settings) -> Export | None:
    """Send one figure to the ingestion endpoint now, and judge its answer; None without a connection string.

    Blocking, for at most some ten seconds. Raises `SettingsInvalid`.
    """
    where = destination(settings)
    proof = Family("worklist_gateway_telemetry_verified", "Sent to prove that telemetry arrives", {(): 1})
    return Telemetry(where, lambda: [proof]).export() if where else None


def destination(settings: Settings) -> Destination | None:
    """Where the settings want telemetry; None without a connection string. Raises `SettingsInvalid`."""
    if settings.applicationinsights_connection_string is None:
        return None
    text = settings.applicationinsights_connection_string.get_secret_value()
    parts = {
        name.strip().lower(): value.strip() for name, _, value in (part.partition("=") for part in text.split(";"))
    }
    if not _KEY.fullmatch(parts.get("instrumentationkey", "")):
        raise SettingsInvalid(
            f"{_VARIABLE} has no InstrumentationKey that is one",
            remedy="copy the connection string from the Application Insights resource again",
        )
    _require_package()
    endpoint = parts.get("ingestionendpoint", _DEFAULT_ENDPOINT).rstrip("/")
    proxy = settings.gateway_relay_proxy.get_secret_value()
    return Destination(text, endpoint, _way_out(proxy, settings.gateway_relay_ca_file))


def _require_package() -> None:
    """Loud at the start: telemetry that is configured and never sent is what nobody notices."""
    from importlib import metadata

    try:
        metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        raise SettingsInvalid(
            f"{_VARIABLE} is set, and {_PACKAGE} is not installed",
            remedy="pip install 'worklist-gateway[azure-monitor]', or leave the variable unset",
        ) from None


def _way_out(proxy: str, ca_file: Path | None) -> dict[str, Any]:
    """As the relay is reached: through the same proxy, trusting the same authorities."""
    options: dict[str, Any] = {"connection_verify": str(ca_file)} if ca_file else {}
    if proxy.lower() not in PROXY_WORDS:
        return options | {"proxies": {"http": proxy, "https": proxy}}
    return options | {"use_env_settings": proxy.lower() == "environment"}


class _AzureMonitor:
    """Microsoft's exporters, watched: they tell whether an export arrived, and here also why not."""

    def __init__(self, destination: Destination) -> None:
        send_nothing_of_azure_monitor_s_own()
        from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter, AzureMonitorMetricExporter

        # What they log may hold an item with the key in it; the outcome is told by us.
        logging.getLogger("azure.monitor.opentelemetry").setLevel(logging.CRITICAL)
        logging.getLogger("azure.core").setLevel(logging.WARNING)
        options: dict[str, Any] = {
            "connection_string": destination.connection_string,
            "disable_offline_storage": True,
            "retry_total": 0,
            "timeout": _PATIENCE,
            "read_timeout": _PATIENCE,
            **destination.way_out,
        }
        self._host = destination.endpoint
        self._troubles: list[tuple[str, str]] = []
        self._metrics = self._watched(AzureMonitorMetricExporter(**options))
        self._lines = self._watched(AzureMonitorLogExporter(**options))

    def send_metrics(self, samples: list[Sample]) -> tuple[str, ...]:
        """Nothing when all arrived, else error and remedy."""
        return self._sent(lambda: self._metrics.export(_metrics_data(samples)))

    def send_lines(self, lines: list[Line]) -> tuple[str, ...]:
        """The same for entries of the log."""
        return self._sent(lambda: self._lines.export([_record(line) for line in lines]))

    def _sent(self, send: Callable[[], Any]) -> tuple[str, ...]:
        self._troubles.clear()
        result = send()
        if self._troubles:
            return self._troubles[0]
        return () if result.name == "SUCCESS" else ("the exporter says that it failed, and not why", "look at the log")

    def _watched(self, exporter: Any) -> Any:  # noqa: ANN401  one of Microsoft's two exporters
        track = exporter.client.track

        def watched(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  the client's own
            try:
                answer = track(*arguments, **named)
            except Exception as error:
                self._troubles.append(self._why(error))
                raise
            told = answer[0] if isinstance(answer, tuple) else answer
            if told.errors:
                first = told.errors[0]
                accepted = f"{told.items_accepted} of {told.items_received} items were accepted"
                refusal = f"{accepted}; the first refusal is {first.status_code}"
                self._troubles.append((refusal, _remedy(first.status_code, self._host)))
            return answer

        exporter.client.track = watched
        return exporter

    def _why(self, error: Exception) -> tuple[str, str]:
        status = getattr(error, "status_code", None)
        if status is not None:
            return f"{self._host} answered {status}", _remedy(status, self._host)
        return (
            f"{self._host} did not answer ({type(error).__name__})",
            f"open outbound TCP 443 to {self._host}, or set GATEWAY_RELAY_PROXY and GATEWAY_RELAY_CA_FILE",
        )


def _remedy(status: int, host: str) -> str:
    known = {
        400: "copy the connection string from the Application Insights resource again",
        401: "the resource takes Microsoft Entra only: allow local authentication for it",
        402: "the resource's daily cap is reached: raise it, or wait for tomorrow",
        403: "the resource refuses this key or network: look at its network isolation and local authentication",
        404: f"{host} is no ingestion endpoint: copy the connection string again",
        429: "too much is sent to this resource: it is tried again",
        439: "the resource's daily cap is reached: raise it, or wait for tomorrow",
    }
    return known.get(status, "it is tried again every minute; look at Azure's status page if that goes on")


# --- in OpenTelemetry's terms


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure as it is sent: of a counter what came since the last export."""

    name: str
    help: str
    labels: dict[str, str]
    value: float


def _samples(families: Iterable[Family], before: dict[tuple[str, tuple[str, ...]], float]) -> Iterator[Sample]:
    for family in families:
        for labels, value in family.samples.items():
            told = value
            if family.is_counter:
                told = value - before.get((family.name, labels), 0.0)
                before[family.name, labels] = value
            if math.isfinite(told):
                yield Sample(family.name, family.help, dict(zip(family.labels, labels, strict=True)), told)


def _metrics_data(samples: list[Sample]) -> MetricsData:
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now = time.time_ns()
    scope = ScopeMetrics(InstrumentationScope("worklist-gateway"), [_metric(sample, now) for sample in samples], "")
    return MetricsData([ResourceMetrics(_resource(), [scope], "")])


def _metric(sample: Sample, now: int) -> Metric:
    from opentelemetry.sdk.metrics.export import Gauge, Metric, NumberDataPoint

    point = NumberDataPoint(dict(sample.labels), now, now, sample.value)
    return Metric(sample.name, sample.help, "", Gauge([point]))


def _record(line: Line) -> ReadableLogRecord:
    from opentelemetry._logs import LogRecord
    from opentelemetry._logs.severity import SeverityNumber
    from opentelemetry.sdk._logs import ReadableLogRecord

    severity = SeverityNumber.WARN if line.get("level") == "warning" else SeverityNumber.ERROR
    told = {name: value for name, value in line.items() if name not in ("event", "level", "timestamp")}
    record = LogRecord(
        timestamp=_nanoseconds(str(line.get("timestamp", ""))),
        severity_text=str(line.get("level", "")),
        severity_number=severity,
        body=str(line.get("event", "")),
        attributes={name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()},
    )
    return ReadableLogRecord(record, _resource())


def _resource() -> Any:  # noqa: ANN401  OpenTelemetry's Resource, which is imported late
    from opentelemetry.sdk.resources import Resource

    return Resource({"service.name": "worklist-gateway", "service.version": __version__})


def _nanoseconds(instant: str) -> int:
    try:
        return int(datetime.fromisoformat(instant).timestamp() * 1e9)
    except ValueError:
        return time.time_ns()
