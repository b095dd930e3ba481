"""Orthanc's REST interface, as far as it is asked here. Blocking; safe from many threads.

What goes wrong is divided by what a person can do:

    OrthancError             has a `phase`: `system`, `changes`, `study`, `send`, `job`
    ├── OrthancUnreachable   nobody answers at GATEWAY_ORTHANC_URL (`orthanc_unreachable`)
    ├── OrthancRefused       it does not let us in (`orthanc_refused`)
    ├── OrthancFailed        it answers with an error of its own, or with what can't be read (`orthanc_failed`)
    └── NotInOrthanc         it has no such thing, or no longer (`orthanc_not_found`)
"""

from __future__ import annotations

import ssl
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.domain.received_study import Series, StudyReport
from gateway.errors import GatewayError

_LONGEST_REASON = 300
_BLANKS = " \0"


class OrthancError(GatewayError):
    """Something could not be asked of Orthanc; `phase` says what."""

    code = "orthanc_failed"

    def __init__(self, message: str, *, phase: str, remedy: str = "") -> None:
        super().__init__(f"{phase}: {message}", remedy=remedy)
        self.phase = phase


class OrthancUnreachable(OrthancError):
    """Nobody answers there, or not in time."""

    code = "orthanc_unreachable"


class OrthancRefused(OrthancError):
    """Orthanc does not know the user, or does not let it do this."""

    code = "orthanc_refused"


class OrthancFailed(OrthancError):
    """Orthanc answers with an error of its own, or what it says can't be read."""

    code = "orthanc_failed"


class NotInOrthanc(OrthancError):
    """Orthanc has no such thing, or no longer."""

    code = "orthanc_not_found"


class _Said(BaseModel):
    """What Orthanc says; keys that are not asked for here are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class System(_Said):
    """Which Orthanc it is. `database` is "" before Orthanc 1.11.1; `dicom_port` is 0 where it does not say."""

    name: str = Field("", alias="Name")
    version: str = Field(alias="Version")
    database: str = Field("", alias="DatabaseServerIdentifier")
    dicom_ae_title: str = Field("", alias="DicomAet")
    dicom_port: int = Field(0, alias="DicomPort")


class Change(_Said):
    """One change: `sequence` counts from 1 and is never used twice by one database."""

    sequence: int = Field(alias="Seq")
    kind: str = Field(alias="ChangeType")
    resource: str = Field(alias="ID")


class Changes(_Said):
    """A page of the feed. `last` is the last change of the page, or of all when it is empty."""

    changes: tuple[Change, ...] = Field(alias="Changes")
    last: int = Field(alias="Last")
    is_all: bool = Field(alias="Done")


class Study(_Said):
    """A study as Orthanc lists it. `is_stable`: no image has come for `StableAge` seconds, or since Orthanc started."""

    orthanc_id: str = Field(alias="ID")
    is_stable: bool = Field(alias="IsStable")
    tags: dict[str, Any] = Field(alias="MainDicomTags")
    patient: dict[str, Any] = Field(alias="PatientMainDicomTags")


class _SeriesSaid(_Said):
    tags: dict[str, Any] = Field(alias="MainDicomTags")
    instances: tuple[str, ...] = Field(alias="Instances")


class _AllSeries(_Said):
    series: tuple[_SeriesSaid, ...]


class Content(BaseModel):
    """A study with all that is in it; `instances` are Orthanc's ids."""

    report: StudyReport
    instances: frozenset[str]


class Job(_Said):
    """One of Orthanc's jobs; `state` is `Pending`, `Running`, `Success`, `Failure`, `Paused` or `Retry`."""

    job_id: str = Field(alias="ID")
    state: str = Field(alias="State")
    error: str = Field("", alias="ErrorDescription")
    details: str = Field("", alias="ErrorDetails")
    content: dict[str, Any] = Field(default_factory=dict, alias="Content")

    @property
    def reason(self) -> str:
        """Why it failed."""
        return ": ".join(filter(None, (self.error, self.details)))[:_LONGEST_REASON]

    @property
    def instances(self) -> int:
        """How many images it was about."""
        count = self.content.get("InstancesCount")
        return count if isinstance(count, int) else 0


class _JobBegun(_Said):
    job_id: str = Field(alias="ID")


M = TypeVar("M", bound=BaseModel)


class Orthanc:
    """The Orthanc at a URL. Every method may raise `OrthancUnreachable`, `OrthancRefused` and `OrthancFailed`."""

    def __init__(
        self, url: str, *, user: str = "", password: str = "", trust: ssl.SSLContext | None = None, timeout: float = 5.0
    ) -> None:
        """`trust` says whose certificates are believed of an Orthanc with HTTPS; None: those the system believes."""
        auth = httpx.BasicAuth(user, password) if user else None
        # The environment's proxies are for the way out; Orthanc is beside us.
        # What is needed for TLS is loaded for TLS only: it takes as long as all the rest.
        verify = (trust or ssl.create_default_context()) if url.startswith("https:") else False
        self._client = httpx.Client(base_url=url, auth=auth, timeout=timeout, trust_env=False, verify=verify)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def system(self) -> System:
        """Which Orthanc it is."""
        return _read(System, self._ask("GET", "/system", phase="system").content, "system")

    def changes(self, since: int, limit: int) -> Changes:
        """The changes after `since`, the oldest first."""
        asked = {"since": str(since), "limit": str(limit)}
        return _read(Changes, self._ask("GET", "/changes", phase="changes", query=asked).content, "changes")

    def content(self, orthanc_id: str) -> Content:
        """A study and all that is in it. Raises `NotInOrthanc`."""
        study = _read(Study, self._ask("GET", f"/studies/{orthanc_id}", phase="study").content, "study")
        answer = self._ask("GET", f"/studies/{orthanc_id}/series", phase="study").content
        all_series = _read(_AllSeries, b'{"series":' + answer + b"}", "study").series
        instances = [instance for series in all_series for instance in series.instances]
        if not instances:
            raise NotInOrthanc("the study has no images any more", phase="study")
        return Content(
            report=_report(study, all_series, self._station_of(instances[0])), instances=frozenset(instances)
        )

    def study_of(self, instance_id: str) -> Study:
        """The study that an image belongs to. Raises `NotInOrthanc`."""
        return _read(Study, self._ask("GET", f"/instances/{instance_id}/study", phase="study").content, "study")

    def send(self, orthanc_id: str, target: str) -> str:
        """Begin a job that sends a study to a modality Orthanc knows; returns the job's id. Raises `NotInOrthanc`."""
        body = {"Resources": [orthanc_id], "Asynchronous": True}
        answer = self._ask("POST", f"/modalities/{target}/store", phase="send", body=body)
        return _read(_JobBegun, answer.content, "send").job_id

    def job(self, job_id: str) -> Job:
        """How far a job is. Raises `NotInOrthanc`: Orthanc keeps the last few only."""
        return _read(Job, self._ask("GET", f"/jobs/{job_id}", phase="job").content, "job")

    def has_study(self, orthanc_id: str) -> bool:
        """Whether the study is still there."""
        try:
            self._ask("GET", f"/studies/{orthanc_id}", phase="study")
        except NotInOrthanc:
            return False
        return True

    def modalities(self) -> list[str]:
        """The modalities that it can send to, by their symbolic names."""
        answer = self._ask("GET", "/modalities", phase="system").content
        return list(_read(_Names, b'{"names":' + answer + b"}", "system").names)

    def _station_of(self, instance_id: str) -> str:
        """The AE that sent an image; "" of one that came by another way."""
        try:
            answer = self._ask("GET", f"/instances/{instance_id}/metadata/RemoteAET", phase="study")
        except NotInOrthanc:
            return ""
        return answer.text.strip(_BLANKS)

    def _ask(
        self, method: str, path: str, *, phase: str, query: dict[str, str] | None = None, body: object = None
    ) -> httpx.Response:
        try:
            answer = self._client.request(method, path, params=query, json=body)
        except httpx.TransportError as error:
            if _is_distrust(error):
                raise OrthancUnreachable(
                    f"Orthanc's certificate is not believed: {error}",
                    phase=phase,
                    remedy="set GATEWAY_ORTHANC_CA_FILE to the root authority above it, and GATEWAY_ORTHANC_URL to a "
                    "name in it",
                ) from error
            raise OrthancUnreachable(
                f"Orthanc does not answer: {type(error).__name__}: {error}",
                phase=phase,
                remedy="is Orthanc running, and is GATEWAY_ORTHANC_URL its HTTP address? No image is lost meanwhile",
            ) from error
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise OrthancRefused(
                f"Orthanc answers {answer.status_code}",
                phase=phase,
                remedy="set GATEWAY_ORTHANC_USER and GATEWAY_ORTHANC_PASSWORD to one of its RegisteredUsers",
            )
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotInOrthanc(_details(answer) or "Orthanc has no such thing", phase=phase)
        if not answer.is_success:
            raise OrthancFailed(
                f"Orthanc answers {answer.status_code}: {_details(answer)}", phase=phase, remedy="look at Orthanc's log"
            )
        return answer


def _is_distrust(error: BaseException | None) -> bool:
    """httpx wraps it twice."""
    return error is not None and (
        isinstance(error, ssl.SSLCertVerificationError) or _is_distrust(error.__cause__ or error.__context__)
    )


class _Names(_Said):
    names: tuple[str, ...]


def _read(model: type[M], said: bytes, phase: str) -> M:
    try:
        return model.model_validate_json(said)
    except ValidationError as error:
        places = sorted({".".join(map(str, found["loc"])) or "the answer" for found in error.errors()})
        raise OrthancFailed(
            f"what Orthanc says can't be read: {', '.join(places)[:_LONGEST_REASON]}",
            phase=phase,
            remedy="is GATEWAY_ORTHANC_URL the HTTP address of an Orthanc of version 1.10 or newer?",
        ) from None


def _details(answer: httpx.Response) -> str:
    """Orthanc's own words about an error; they name resources and modalities, and nobody."""
    try:
        said = answer.json()
    except ValueError:
        return ""
    words = (said.get("Details") or said.get("Message")) if isinstance(said, dict) else ""
    return str(words or "")[:_LONGEST_REASON]


def _report(study: Study, all_series: tuple[_SeriesSaid, ...], station: str) -> StudyReport:
    uid = _text(study.tags, "StudyInstanceUID")
    if not uid:
        raise OrthancFailed("the study has no Study Instance UID", phase="study", remedy="look at it in Orthanc")
    return StudyReport(
        orthanc_id=study.orthanc_id,
        study_instance_uid=uid,
        accession_number=_text(study.tags, "AccessionNumber"),
        patient_id=_text(study.patient, "PatientID"),
        patient_name=_text(study.patient, "PatientName"),
        patient_birth_date=_text(study.patient, "PatientBirthDate"),
        study_description=_text(study.tags, "StudyDescription"),
        station_ae_title=station,
        series=tuple(
            Series(
                series_instance_uid=_text(one.tags, "SeriesInstanceUID"),
                modality=_text(one.tags, "Modality"),
                instances=len(one.instances),
            )
            for one in all_series
        ),
    )


def _text(tags: dict[str, Any], name: str) -> str:
    value = tags.get(name)
    return value.strip(_BLANKS) if isinstance(value, str) else ""
