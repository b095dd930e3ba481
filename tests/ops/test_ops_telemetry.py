"""Azure Monitor, by a server here that stands in as the ingestion endpoint: what arrives, and what if not."""

from __future__ import annotations

import gzip
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ops_support import asynchronous, fetch, running

from bench.synthetic import schedule
from gateway import log
from gateway.errors import SettingsInvalid
from gateway.ops import telemetry
from gateway.ops.metrics import Family
from gateway.ops.telemetry import MOST_LINES, Telemetry, verify
from gateway.settings import Settings, listed

Make = Callable[..., Settings]
KEY = "00000000-0000-4000-8000-000000000001"


@dataclass
class Ingestion:
    """An ingestion endpoint: keeps the items that came, answers by `status`, or refuses some of each request."""

    port: int = 0
    status: int = 200
    refused: int = 0
    items: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def connection_string(self) -> str:
        return f"InstrumentationKey={KEY};IngestionEndpoint=http://127.0.0.1:{self.port}/"

    def take(self, body: bytes) -> tuple[int, dict[str, Any]]:
        items = json.loads(body)
        if self.status != 200:
            return self.status, {"itemsReceived": len(items), "itemsAccepted": 0, "errors": []}
        self.items += items
        errors = [{"index": n, "statusCode": 400, "message": "a field is missing"} for n in range(self.refused)]
        told = {"itemsReceived": len(items), "itemsAccepted": len(items) - len(errors), "errors": errors}
        return 206 if errors else 200, told

    def figures(self) -> dict[str, float]:
        """The metrics that came, by name; of several samples the last."""
        data = [item["data"]["baseData"] for item in self.items if item["data"]["baseType"] == "MetricData"]
        return {metric["name"]: metric["value"] for one in data for metric in one["metrics"]}

    def messages(self) -> list[dict[str, Any]]:
        return [item["data"]["baseData"] for item in self.items if item["data"]["baseType"] == "MessageData"]


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    endpoint = Ingestion()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.paths.append(self.path)
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            status, told = endpoint.take(plain)
            answer = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield endpoint
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def settings(own_settings: Make, ingestion: Ingestion) -> Settings:
    return own_settings(applicationinsights_connection_string=ingestion.connection_string, gateway_relay_proxy="none")


def exporting(settings: Settings, *families: Family) -> Telemetry:
    return Telemetry(telemetry.destination(settings), lambda: list(families))


# --- what arrives


def test_figures_arrive_by_their_names_and_labels(settings: Settings, ingestion: Ingestion) -> None:
    items = Family("worklist_gateway_items", "?", {("SCHEDULED",): 3}, ("status",))
    never = Family("worklist_gateway_backup_age_seconds", "?", {(): float("inf")})
    export = exporting(settings, items, never).export()
    assert (export.error, export.items) == ("", 1)
    assert export.endpoint == f"http://127.0.0.1:{ingestion.port}"
    [item] = ingestion.items
    assert ingestion.figures() == {"worklist_gateway_items": 3}
    assert item["data"]["baseData"]["properties"] == {"status": "SCHEDULED"}
    assert item["iKey"] == KEY
    assert item["tags"]["ai.cloud.role"] == "worklist-gateway"


def test_of_a_counter_what_came_since_the_last_time_arrives(settings: Settings, ingestion: Ingestion) -> None:
    counted = {(): 5.0}
    exported = exporting(settings, Family("worklist_gateway_queries_total", "?", counted, is_counter=True))
    told = []
    for so_far in (5.0, 7.0, 7.0):
        counted[()] = so_far
        exported.export()
        told.append(ingestion.figures()["worklist_gateway_queries_total"])
    assert told == [5, 2, 0]


def test_nothing_of_the_exporters_own_arrives_and_nothing_is_kept_on_disk(
    settings: Settings, ingestion: Ingestion
) -> None:
    exported = exporting(settings, Family("worklist_gateway_healthy", "?", {(): 1}))
    exported.export()
    exported.export()
    assert ingestion.paths == ["/v2.1/track"] * 2
    assert set(ingestion.figures()) == {"worklist_gateway_healthy"}
    assert exported._azure_monitor is not None
    assert exported._azure_monitor._metrics.storage is None


@pytest.mark.parametrize(("named", "through"), [("a proxy", True), ("environment", True), ("none", False)])
def test_it_goes_out_as_the_relay_is_reached(
    own_settings: Make, ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch, named: str, *, through: bool
) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    proxy = f"http://127.0.0.1:{ingestion.port}"
    if named != "a proxy":
        monkeypatch.setenv("HTTP_PROXY", proxy)
    export = verify(
        own_settings(
            applicationinsights_connection_string=f"InstrumentationKey={KEY};IngestionEndpoint=http://ingestion.invalid",
            gateway_relay_proxy=proxy if named == "a proxy" else named,
        )
    )
    assert export is not None
    assert (not export.error) is through
    assert ingestion.paths == (["http://ingestion.invalid/v2.1/track"] if through else [])


@asynchronous
async def test_a_service_exports_its_metrics_and_the_warnings_of_its_log_which_name_nobody(
    settings: Settings, ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log.configure("json")
    try:
        async with running(settings, monkeypatch) as (service, port):
            schedule(service.gateway)
            ours = log.get_logger("gateway.test")
            ours.info("answered", accession_number="ACC001")
            ours.warning("step_unfinished", accession_numbers=["ACC001"], remedy="ask at the unit")
            try:
                int("SMITH^JANE")
            except ValueError:
                ours.exception("part_failed")
            logging.getLogger("websockets").warning("a library warns of %s", "something")
            report = (await fetch(port)).json
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert report["checks"]["telemetry"] == {"ok": True, "last": None}
    assert {"worklist_gateway_healthy", "worklist_gateway_items"} <= set(ingestion.figures())
    told = {message["message"]: message for message in ingestion.messages()}
    assert {"step_unfinished", "part_failed", "a library warns of something"} <= set(told)
    assert "answered" not in told
    assert told["step_unfinished"]["severityLevel"] == 2
    assert told["step_unfinished"]["properties"]["accession_numbers"] == '["ACC001"]'
    assert told["part_failed"]["severityLevel"] == 3
    assert told["part_failed"]["properties"]["exception"] == "ValueError"
    everything = json.dumps(ingestion.items)
    assert not [word for word in ("SMITH", "JANE", "9990000018", "19650315") if word in everything]


# --- what if it does not


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(400, "copy the connection string"), (401, "local authentication"), (402, "cap"), (429, "again"), (500, "again")],
)
def test_an_endpoint_that_refuses_is_told_with_its_status_and_what_to_do(
    settings: Settings, ingestion: Ingestion, status: int, remedy: str
) -> None:
    ingestion.status = status
    exported = exporting(settings, Family("worklist_gateway_healthy", "?", {(): 1}))
    export = exported.export()
    assert export.error == f"http://127.0.0.1:{ingestion.port} answered {status}"
    assert remedy in export.remedy
    assert exported.check()["ok"] is True
    assert exported.check()["warning"] == f"{export.error} → {export.remedy}"
    ingestion.status = 200
    assert exported.export().error == ""
    assert "warning" not in exported.check()


def test_items_that_are_refused_one_by_one_are_told(settings: Settings, ingestion: Ingestion) -> None:
    ingestion.refused = 1
    families = [Family(f"worklist_gateway_{word}", "?", {(): 1}) for word in ("a", "b")]
    assert exporting(settings, *families).export().error == "1 of 2 items were accepted; the first refusal is 400"


def test_nobody_there_is_told_with_the_host_that_must_be_reached(own_settings: Make) -> None:
    nowhere = f"InstrumentationKey={KEY};IngestionEndpoint=http://127.0.0.1:9/"
    export = verify(own_settings(applicationinsights_connection_string=nowhere, gateway_relay_proxy="none"))
    assert export is not None
    assert export.error == "http://127.0.0.1:9 did not answer (ServiceRequestError)"
    assert "outbound TCP 443 to http://127.0.0.1:9" in export.remedy


def test_no_key_is_in_what_is_told_or_logged(
    settings: Settings, ingestion: Ingestion, caplog: pytest.LogCaptureFixture
) -> None:
    ingestion.refused = 1
    export = exporting(settings, Family("worklist_gateway_healthy", "?", {(): 1})).export()
    assert KEY not in f"{export}{caplog.text}"
    assert "telemetry_not_exported" in caplog.text
    assert KEY not in str(listed(settings))


def test_log_lines_wait_in_order_until_they_arrive_and_the_oldest_fall_out(
    settings: Settings, ingestion: Ingestion
) -> None:
    exported = exporting(settings)
    ingestion.status = 503
    for number in range(MOST_LINES + 5):
        exported.take({"event": f"line {number}", "level": "warning", "timestamp": "2026-11-23T10:00:00Z"})
    exported.export()
    exported.take({"event": "the last", "level": "error", "timestamp": "2026-11-23T10:00:01Z"})
    ingestion.status = 200
    exported.export()
    told = [message["message"] for message in ingestion.messages()]
    assert told == [*(f"line {number}" for number in range(6, MOST_LINES + 5)), "the last"]


def test_an_export_that_fails_otherwise_ends_nobody(settings: Settings) -> None:
    def broken() -> list[Family]:
        raise OSError("?")

    export = Telemetry(telemetry.destination(settings), broken).export()
    assert export.error == "unexpected OSError"


# --- the doctor's question, and the settings


def test_verify_sends_one_figure_and_judges_the_answer(settings: Settings, ingestion: Ingestion) -> None:
    export = verify(settings)
    assert export is not None
    assert (export.items, export.error) == (1, "")
    assert ingestion.figures() == {"worklist_gateway_telemetry_verified": 1}


def test_without_a_connection_string_nothing_is_sent(own_settings: Make) -> None:
    assert verify(own_settings()) is None


@pytest.mark.parametrize("text", ["", "nonsense", "InstrumentationKey=7", "IngestionEndpoint=https://x"])
def test_a_connection_string_that_is_none_keeps_the_service_from_starting(own_settings: Make, text: str) -> None:
    if text:
        with pytest.raises(SettingsInvalid, match="APPLICATIONINSIGHTS_CONNECTION_STRING has no InstrumentationKey"):
            verify(own_settings(applicationinsights_connection_string=text))
    else:
        assert verify(own_settings(applicationinsights_connection_string=text)) is None


def test_a_package_that_is_missing_is_said_at_once_with_how_to_get_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "_PACKAGE", "a-package-that-is-nowhere")
    with pytest.raises(SettingsInvalid, match=r"worklist-gateway\[azure-monitor\]"):
        verify(settings)


def test_the_way_out_is_the_relay_s(own_settings: Make) -> None:
    string = f"InstrumentationKey={KEY}"
    made = own_settings(
        applicationinsights_connection_string=string,
        gateway_relay_proxy="http://proxy:3128",
        gateway_relay_ca_file="/etc/ca.pem",
    )
    destination = telemetry.destination(made)
    assert destination.endpoint == "https://dc.services.visualstudio.com"
    assert destination.way_out == {
        "connection_verify": "/etc/ca.pem",
        "proxies": {"http": "http://proxy:3128", "https": "http://proxy:3128"},
    }
