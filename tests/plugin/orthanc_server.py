"""Debian's Orthanc as a real process, with the gateway as its plugin or without."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import Process, Relay, environment, free_port, until

PLUGIN = Path(__file__).parents[2] / "gateway" / "orthanc_plugin.py"
PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")


def orthanc() -> str:
    """Orthanc's program; without it the test is skipped, in CI it fails."""
    found = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        _missing("Orthanc is not installed (Debian: apt-get install orthanc)")
    assert found
    return found


def python_plugin() -> Path:
    """Its plugin for Python scripts, which must run the Python that our packages were installed for."""
    if not PYTHON_PLUGIN.exists():
        _missing("Orthanc's Python plugin is not installed (Debian: apt-get install orthanc-python)")
    ours = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so"
    if ours.encode() not in PYTHON_PLUGIN.read_bytes():
        _missing(f"Orthanc's Python plugin runs another Python than the tests do: it does not want {ours}")
    return PYTHON_PLUGIN


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class OrthancProcess(Process):
    """Orthanc on ports and folders of its own; `configuration` is written at each start."""

    def __init__(self, folder: Path, configuration: dict[str, Any], **settings: object) -> None:
        super().__init__(folder, "orthanc", [], dict(settings))
        self.program = orthanc()
        self.configuration = configuration
        self.http_port, self.dicom_port = free_port(), free_port()
        self.user: tuple[str, str] | None = None

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                self.command_line(),
                cwd=self.folder,
                env=environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def command_line(self) -> list[str]:
        """How it is started."""
        images, written = str(self.folder / "images"), self.folder / "orthanc.json"
        own = {
            "Name": "under test",
            "StorageDirectory": images,
            "IndexDirectory": images,
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "RemoteAccessAllowed": False,
        }
        written.write_text(json.dumps(own | self.configuration), encoding="utf-8")
        return [self.program, str(written)]

    def start(self) -> OrthancProcess:
        """Start it and wait until its REST interface answers."""
        self.launch()
        until(lambda: self.get("/system") or not self.running, "Orthanc answers", 30)
        assert self.running, self.tail()
        return self

    def get(self, path: str, method: str = "GET") -> tuple[int, Any] | None:
        """Status and JSON, if it is some, of what Orthanc's REST interface answers; None while nobody does."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", method=method)
        if self.user:
            request.add_header("Authorization", f"Basic {base64.b64encode(':'.join(self.user).encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read())
        except OSError:
            return None

    def lines(self) -> list[dict[str, Any]]:
        """The gateway's lines in Orthanc's log."""
        found = (line.partition("] {") for line in self.err.read_text("utf-8", "replace").splitlines())
        return [json.loads("{" + rest) for _, sign, rest in found if sign and rest.endswith("}")]

    def said(self, event: str, **keys: object) -> dict[str, Any] | None:
        """The last of them of this event with these values."""
        told = [line for line in self.lines() if line["event"] == event and keys.items() <= line.items()]
        return told[-1] if told else None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


class HostingOrthanc(OrthancProcess):
    """Orthanc with the gateway as its plugin."""

    def __init__(self, folder: Path, relay: Relay | None = None, **changes: Any) -> None:
        self.mpps_port, self.ops_port = free_port(), free_port()
        self.database = folder / "gateway.db"
        self.section: dict[str, Any] = {
            "WORKLIST_DB_PATH": str(self.database),
            "GATEWAY_OPS_PORT": self.ops_port,
            "GATEWAY_DICOM_HOST": "127.0.0.1",
        }
        ours: dict[str, Any] = {
            "Plugins": [str(python_plugin())],
            "PythonScript": str(PLUGIN),
            "MPPSAet": "BREAST_MWL",
            "DicomPortMPPS": self.mpps_port,
            "WorklistGateway": self.section,
        }
        settings: dict[str, object] = {}
        if relay:
            settings = {
                "azure_relay_connection_string": relay.connection_string,
                "azure_relay_hybrid_connection": "actions",
                "azure_relay_events_hybrid_connection": "events",
            }
        super().__init__(folder, ours | changes, **settings)

    def until_health(self, status: int, seconds: float = 20.0, **values: object) -> dict[str, Any]:
        """What `/mwl/health` says, as soon as it has this HTTP status and these values."""

        def holds() -> dict[str, Any] | None:
            assert self.running, f"Orthanc has ended\n{self.tail()}"
            answer = self.get("/mwl/health")
            return answer[1] if answer and answer[0] == status and values.items() <= answer[1].items() else None

        return until(holds, f"/mwl/health answers {status} {values or ''}", seconds)
