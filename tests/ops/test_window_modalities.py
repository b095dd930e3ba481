"""The modalities' pages: who asks and who was refused, and why each is shown what it is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ops_support import asynchronous, running
from window_support import Browser, Make, names_nobody, secret_of, text

from bench.synthetic import PERSON, schedule
from gateway.audit import activities
from gateway.domain.lifecycle import Status
from gateway.rehearsal.modality import AssociationRejected, Modality
from gateway.service import Service

DAY = "20261123"


async def asked(service: Service, title: str = "MAMMO1", called: str = "ORTHANC_MWL", **keys: str) -> None:
    await asyncio.to_thread(Modality("127.0.0.1", service.dicom.port, called, title).find, **keys)


async def refused(service: Service, title: str, called: str = "WRONG") -> None:
    with pytest.raises(AssociationRejected):
        await asked(service, title, called)


async def recorded(service: Service) -> None:
    await asyncio.to_thread(service.record.close)


@asynchronous
async def test_who_asked_and_who_was_refused_is_listed_with_the_reason(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asked(service)
        await refused(service, "MAMMO2")
        await asked(service, "REHEARSAL")
        await recorded(service)
        page, told = await Browser(port).get("/modalities"), await Browser(port).get("/modalities.json")
    units = {unit["ae_title"]: unit for unit in told.json["units"]}
    assert set(units) == {"MAMMO1", "MAMMO2"}, "a rehearsal is no modality"
    assert (units["MAMMO1"]["state"], units["MAMMO1"]["address"]) == ("quiet", "127.0.0.1")
    assert units["MAMMO1"]["last_seen"]
    assert (units["MAMMO2"]["state"], units["MAMMO2"]["refused"]) == ("refused", 1)
    assert "Called AE title not recognised" in units["MAMMO2"]["refusal"]
    assert "Called AE title not recognised" in text(page)
    assert 'href="/modalities/MAMMO1"' in text(page)


@asynchronous
async def test_before_anybody_has_asked_it_is_said_what_to_look_at(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page = await Browser(port).get("/modalities")
    assert page.status == 200
    assert "Nobody has asked yet" in text(page)


@asynchronous
async def test_a_unit_of_the_modalities_file_is_shown_before_it_was_ever_seen(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "modalities.toml"
    file.write_text(
        '[[modality]]\nae_title = "MAMMO9"\naddresses = ["10.4.2.0/24"]\nomit_keys = ["StudyInstanceUID"]\n'
    )
    async with running(own_settings(gateway_modalities_file=file), monkeypatch) as (_, port):
        told = await Browser(port).get("/modalities.json")
        unit, page = await Browser(port).get("/modalities/MAMMO9.json"), await Browser(port).get("/modalities/MAMMO9")
    assert [(one["ae_title"], one["state"]) for one in told.json["units"]] == [("MAMMO9", "not seen")]
    assert told.json["strangers_admitted"] is False
    profile = dict(unit.json["profile"])
    assert (profile["May call from"], profile["Left out"]) == ("10.4.2.0/24", "StudyInstanceUID")
    assert "nobody has asked as MAMMO9" in text(page)


@asynchronous
async def test_the_latest_query_is_explained_key_by_key_and_values_that_name_somebody_are_masked(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        schedule(service.gateway, "ACC002", patient_name="JONES^MARY")
        service.gateway.correct_status("ACC002", Status.CANCELLED, reason="withdrawn", operator="ada")
        await asked(service, date=DAY, patient_name="SMYTH^JANE", patient_id=PERSON["patient_id"])
        await recorded(service)
        path = "/modalities/MAMMO1"
        page, told = await Browser(port).get(path), await Browser(port).get(f"{path}.json")
        one = await Browser(port).get(f"{path}.json?accession=ACC002")
    assert "MAMMO1 asked ORTHANC_MWL from 127.0.0.1" in text(page)
    (first, *_) = told.json["explained"]["items"]
    assert (first["accession_number"], first["listed"]) == ("ACC001", "no")
    assert "PatientName (0010,0010): asked S••••^J•••, the item has S••••^J•••" in first["why"][0]
    assert told.json["explained"]["is_masked"] is True
    assert "GATEWAY_LISTED_STATUSES" in str(one.json["explained"]["items"])
    assert names_nobody([page, told, one], ["SMYTH", "SMITH", "JANE", "JONES", PERSON["patient_id"]])


@asynchronous
async def test_what_differs_is_revealed_for_a_reason_that_is_kept_with_what_was_looked_at(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        await asked(service, date=DAY, patient_name="SMYTH^JANE")
        await recorded(service)
        browser = Browser(port)
        secret = secret_of(await browser.get("/modalities/MAMMO1"))
        fields = {"secret": secret, "ae_title": "MAMMO1"}
        naming_her = await browser.post("/modalities/reveal", reason="is it Smyth or so", **fields)
        await browser.post("/modalities/reveal", reason="not on the list", **fields)
        page, other = await browser.get("/modalities/MAMMO1"), await Browser(port).get("/modalities/MAMMO1")
        with service.gateway.reading() as connection:
            (look,) = [one for one in activities.find(connection) if one.activity == "looked"]
    assert naming_her.status == 400
    assert "asked SMYTH^JANE, the item has SMITH^JANE" in text(page)
    assert names_nobody([other], ["SMYTH", "SMITH"])
    assert look.subjects == ("query 1", "ACC001")


@asynchronous
async def test_an_accession_number_that_there_is_not_is_said_on_the_page(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asked(service)
        await asked(service, "MAMMO2")
        await recorded(service)
        page = await Browser(port).get("/modalities/MAMMO1?accession=ACC999")
        anothers = await Browser(port).get("/modalities/MAMMO1.json?query=2")
        nonsense = await Browser(port).get("/modalities/MAMMO1.json?query=x")
    assert page.status == 200
    assert "there is no item ACC999" in text(page)
    assert anothers.json["not_explained"] == "query 2 is another modality's"
    assert (nonsense.status, nonsense.json["field"]) == (400, "query")


@asynchronous
async def test_an_ae_title_that_nobody_called_by_is_404_and_a_hostile_one_is_shown_as_text(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "<script>x"
    async with running(own_settings(), monkeypatch) as (service, port):
        await refused(service, hostile)
        await recorded(service)
        unknown = await Browser(port).get("/modalities/NOBODY")
        pages = [await Browser(port).get(path) for path in ("/modalities", "/modalities/%3Cscript%3Ex")]
    assert unknown.status == 404
    assert [page.status for page in pages] == [200, 200]
    for page in pages:
        assert "&lt;script&gt;x" in text(page)
        assert hostile not in text(page)
