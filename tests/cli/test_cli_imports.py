"""What a start imports: steadier than a clock, and it names who made it slow. The clock is `python -m bench.start`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cli_support import environment

from gateway.application import Gateway

WITHOUT_DICOM = ("worklist list", "outbox list", "steps unmatched", "events list", "backup list", "config show")
DICOM = {"pydicom", "pynetdicom", "numpy"}
SERVERS = {"websockets", "asyncio", "uvicorn", "starlette"}
LOGGING = {"structlog", "rich"}
NOT_FOR_THE_SERVICE = {
    *("azure", "msal", "trustme", "numpy", "PIL", "hypothesis", "pytest"),
    *("gateway.demo", "gateway.rehearsal", "gateway.audit.story", "gateway.audit.export", "gateway.audit.erasure"),
    *("gateway.cli.demo", "gateway.cli.worklist", "relay.emulator"),
}

VERBS = """
import contextlib, io, json, sys
from gateway import cli
imported = {}
for verb in json.loads(sys.argv.pop()):
    sys.argv = ["gateway", *verb.split()]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, verb
    imported[verb] = list(sys.modules)
print(json.dumps(imported))
"""

SERVICE = """
import asyncio, json, os, signal, sys
from gateway import cli, service
from gateway.cli import serve
from gateway.settings import load
def started():
    print(json.dumps(list(sys.modules)))
    os.kill(os.getpid(), signal.SIGTERM)
asyncio.run(service.serve(load(), started))
"""


def told(folder: Path, script: str, *arguments: str, **variables: str) -> str:
    python = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        python, cwd=folder, env=environment(folder, **variables), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_a_verb_that_needs_no_dicom_imports_none_and_no_server_either(story: Gateway, tmp_path: Path) -> None:
    imported = json.loads(told(tmp_path, VERBS, json.dumps(WITHOUT_DICOM)))
    assert list(imported) == list(WITHOUT_DICOM)
    barred = DICOM | SERVERS | LOGGING
    assert [(verb, name) for verb, names in imported.items() for name in names if name in barred] == []


def test_a_service_that_listens_has_imported_no_verb_but_its_own_and_nothing_of_the_demo_s(tmp_path: Path) -> None:
    ports = {"GATEWAY_DICOM_HOST": "127.0.0.1", "GATEWAY_DICOM_PORT": "0", "GATEWAY_OPS_PORT": "0"}
    imported = json.loads(told(tmp_path, SERVICE, WORKLIST_DB_PATH=str(tmp_path / "gateway.db"), **ports))
    assert "gateway.dicom.responder" in imported
    assert sorted(NOT_FOR_THE_SERVICE & set(imported)) == []


def test_a_verb_is_imported_alone(tmp_path: Path) -> None:
    imported = json.loads(told(tmp_path, VERBS, json.dumps(["config show"])))["config show"]
    assert {name for name in imported if name.startswith("gateway.cli.")} == {
        *("gateway.cli.verbs", "gateway.cli.config", "gateway.cli.output")
    }
