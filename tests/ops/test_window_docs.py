"""The project's documents in the window: all of them, offline, their links leading to one another."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ops_support import asynchronous, running
from window_support import ROLES, Browser, Make, text

from gateway.ops.window import docs

ROOT = Path(__file__).parents[2]


@asynchronous
async def test_every_document_of_the_project_is_there(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    async with running(own_settings(), monkeypatch) as (_, port):
        page, told = await Browser(port).get("/docs"), await Browser(port).get("/docs.json")
        names = [one["name"] for part in ("documents", "decisions") for one in told.json[part]]
        answers = [await Browser(port).get(f"/docs/{name}") for name in names]
    assert set(names) >= {"README", "CHANGELOG", *expected}
    assert told.json["documents"][0] == {"name": "README", "title": "Worklist gateway"}
    assert {answer.status for answer in answers} == {200}
    assert 'href="/docs/decisions/0004-a-strict-data-set-codec"' in text(page)


@asynchronous
async def test_links_between_documents_lead_to_their_pages_and_headings(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        told = await Browser(port).get("/docs.json")
        names = [one["name"] for part in ("documents", "decisions") for one in told.json[part]]
        pages = {f"/docs/{name}": text(await Browser(port).get(f"/docs/{name}")) for name in names}
        links = {
            (path, unescape(link))
            for path, page in pages.items()
            for link in re.findall(r'(?:href|src)="([^"]*)"', page.split("<article")[1].split("</article>")[0])
        }
        own = [(path, link) for path, link in links if not urlsplit(link).scheme]
        for path, link in own:
            where, _, fragment = link.partition("#")
            if where.endswith(".png"):
                picture = await Browser(port).get(where)
                assert (picture.status, picture.headers["content-type"]) == (200, "image/png"), (path, link)
                continue
            page = pages.get(where or path) or text(await Browser(port).get(where))
            assert "That did not work" not in page, (path, link)
            assert not fragment or f'id="{fragment}"' in page, (path, link)
    assert len(own) > 20
    assert ("/docs/README", "/docs/audit") in own


@asynchronous
async def test_a_document_needs_no_inline_style_and_runs_no_script_of_its_own(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page = text(await Browser(port).get("/docs/README"))
    assert " style=" not in page
    assert "<table" in page.split("<article")[1]


def test_html_in_a_document_is_shown_as_text_and_no_link_runs_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    file = tmp_path / "README.md"
    file.write_text("# A <b>\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) [y](gateway/settings.py)\n")
    _, html = docs._rendered(file, 0)
    assert "<script" not in html
    assert "href" not in html
    assert "&lt;script&gt;" in html


@asynchronous
async def test_a_sample_file_is_shown_and_a_file_of_the_code_is_not(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        sample = await Browser(port).get("/docs/modalities.sample.toml")
        names = ("pyproject", "../pyproject.toml", "../gateway/settings.py", "%2e%2e/LICENSE", "x.png", "../x.png")
        others = [await Browser(port).get(f"/docs/{name}") for name in names]
    assert "[[modality]]" in text(sample)
    assert {answer.status for answer in others} == {404}


@asynchronous
async def test_pictures_of_the_docs_are_sent_as_they_are(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docs" / "images").mkdir(parents=True)
    (tmp_path / "docs" / "images" / "clinic.png").write_bytes(b"\x89PNG")
    (tmp_path / "docs" / "window.md").write_text("# W\n\n![the clinic](images/clinic.png)\n")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    async with running(own_settings(), monkeypatch) as (_, port):
        page = text(await Browser(port).get("/docs/window"))
        (source,) = re.findall(r'<img src="([^"]+)" alt="the clinic"', page)
        picture = await Browser(port).get(source)
    assert (picture.status, picture.headers["content-type"], picture.body) == (200, "image/png", b"\x89PNG")


@asynchronous
async def test_docs_are_for_those_who_may_look(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        answers = [await Browser(port, Accept="*/*").get(path) for path in ("/docs", "/docs/README", "/docs/x.png")]
    assert [answer.status for answer in answers] == [401, 401, 401]
