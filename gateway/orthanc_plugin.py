"""The gateway as a plugin of Orthanc, whose Python plugin loads this file (`PythonScript`): docs/orthanc-plugin.md.

It starts and stops with Orthanc, and shows `/mwl/health` and `/mwl/worklist` under Orthanc's REST interface. Whatever
fails here is told there and in Orthanc's log; Orthanc itself goes on.

Loaded by its path and outside of any virtual environment, it first makes the gateway importable: until then it has
nothing but the standard library and `orthanc`, the module that exists within Orthanc only.
"""

from __future__ import annotations

import io
import json
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orthanc

if TYPE_CHECKING:
    from gateway.hosted import Answer, HostedGateway
    from gateway.settings import Settings

_FILE = Path(__file__).resolve()
_CONFIGURATION: dict[str, Any] = json.loads(orthanc.GetConfiguration())


class _OrthancLog(io.TextIOBase):
    """Our log lines as Orthanc's: warnings, since those are what it writes unless it is asked for more."""

    def write(self, text: str) -> int:
        """One line."""
        orthanc.LogWarning(text.rstrip("\n"))
        return len(text)


def _virtual_environment() -> Path | None:
    """The one that Orthanc's configuration names, else the one that this file is in or lies beside."""
    section = _CONFIGURATION.get("WorklistGateway")
    named = section.get("VirtualEnvironment") if isinstance(section, dict) else None
    if named:
        return Path(named)
    near = (place for folder in _FILE.parents for place in (folder, folder / ".venv"))
    return next((place for place in near if (place / "pyvenv.cfg").is_file()), None)


def _make_importable() -> None:
    """Have the virtual environment's packages before the system's. Raises `ImportError`."""
    if str(_FILE.parent) in sys.path:  # put there by Orthanc's plugin: our modules would be top-level ones
        sys.path.remove(str(_FILE.parent))
    environment = _virtual_environment()
    if environment is None:
        sys.executable = f"{sys.base_exec_prefix}/bin/python{_python()}"
        return
    packages = environment / "lib" / f"python{_python()}" / "site-packages"
    if not packages.is_dir():
        raise ImportError(f"{environment} is no virtual environment of Python {_python()}, which Orthanc runs")
    before = list(sys.path)
    site.addsitedir(str(packages))
    ours = [path for path in sys.path if path not in before]
    systems = [path for path in before if path.endswith("dist-packages")]
    sys.path[:] = [*(path for path in before if path not in systems), *ours, *systems]
    sys.executable = str(environment / "bin" / "python")  # it is Orthanc here, and a long rebuild starts a Python


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _settings() -> Settings:
    from gateway import log
    from gateway.hosted import settings_of

    settings = settings_of(_CONFIGURATION)
    log.configure(settings.gateway_log_format, _OrthancLog())
    return settings


def _loaded() -> HostedGateway | None:
    """The gateway, not started; None when it can't be imported."""
    try:
        _make_importable()
        from gateway import log
        from gateway.hosted import HostedGateway
    except Exception as error:  # noqa: BLE001  an error here would end Orthanc; it is told in the log and by REST
        _unloadable["error"] = f"the gateway can't be imported: {error}"
        orthanc.LogError(json.dumps({"event": "gateway_failed", **_unloadable}))
        return None
    log.configure("auto", _OrthancLog())
    log.tell_what_nobody_catches()
    return HostedGateway(_settings)


_unloadable: dict[str, Any] = {
    "healthy": False,
    "state": "failed",
    "code": "gateway_not_importable",
    "remedy": f"install worklist-gateway into a virtual environment of Python {_python()}, name its folder as "
    "VirtualEnvironment in the section WorklistGateway of Orthanc's configuration, and restart Orthanc",
}
_gateway = _loaded()


def _on_change(change: int, _level: int, _resource: str) -> None:
    """Orthanc has started, or is about to stop and waits for us."""
    if _gateway is None:
        return
    if change == orthanc.ChangeType.ORTHANC_STARTED:
        _gateway.start()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        _gateway.stop()


def _on_request(output: Any, _uri: str, **request: Any) -> None:  # noqa: ANN401  Orthanc's module has no types
    """`GET /mwl/health` and `GET /mwl/worklist`. Orthanc has asked who it is before us."""
    if request["method"] != "GET":
        output.SendMethodNotAllowed("GET")
        return
    status, body = _answer(request["groups"][0], request["get"])
    text = json.dumps(body, ensure_ascii=False, indent=2)
    output.SetHttpHeader("Cache-Control", "no-store")
    if status == 200:
        output.AnswerBuffer(text, "application/json")
    else:
        output.SetHttpHeader("Content-Type", "application/json")
        output.SendHttpStatus(status, text, len(text.encode()))


def _answer(page: str, asked: dict[str, str]) -> Answer:
    if _gateway is None:
        return 503, _unloadable
    return _gateway.health() if page == "health" else _gateway.worklist(asked)


orthanc.RegisterOnChangeCallback(_on_change)
orthanc.RegisterRestCallback("/mwl/(health|worklist)", _on_request)
