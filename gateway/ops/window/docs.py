"""The project's own documents, offline: what README, CHANGELOG and `docs/` say of just this version."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import escape
from starlette.requests import Request

from gateway.errors import NotFound
from gateway.ops.window.page import Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit

PICTURES: Final = (".png", ".svg")
_TEXTS: Final = (".toml", ".json", ".yaml", ".yml", ".txt")
_SHIPPED: Final = Path(__file__).parent / "documents"
_CHECKOUT: Final = Path(__file__).parents[3]
ROOT: Final = _SHIPPED if _SHIPPED.is_dir() else _CHECKOUT
"""Where they are: beside this module in what was installed, else in the checkout."""

_FIRST: Final = ("README", "for-the-modality-engineer", "status-events", "audit", "relay")
"""What most come for; the others follow by name."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document's name in the address, and its title."""

    name: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All documents, and the decision records apart from them."""

    documents: tuple[Document, ...]
    decisions: tuple[Document, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPage:
    """A document, rendered; `html` is made by us of its Markdown, whose own HTML is shown as text."""

    name: str
    title: str
    html: str


def look(_: Sources, __: Visit, ___: Request) -> Contents:
    """What there is."""
    found = {name: _title(file) for name, file in _documents().items() if file.suffix == ".md"}
    ordered = [*(name for name in _FIRST if name in found), *sorted(found.keys() - set(_FIRST), key=str.lower)]
    documents = [Document(name, found[name]) for name in ordered]
    return Contents(
        documents=tuple(one for one in documents if not one.name.startswith("decisions/")),
        decisions=tuple(one for one in documents if one.name.startswith("decisions/")),
    )


def look_at_one(_: Sources, __: Visit, request: Request) -> DocumentPage:
    """Raises `NotFound`."""
    name = str(request.path_params["name"])
    file = _documents().get(name)
    if file is None:
        raise NotFound("there is no such document", remedy="the docs page lists those there are")
    title, html = _rendered(file, file.stat().st_mtime_ns)
    return DocumentPage(name=name, title=title, html=html)


def picture(path: str) -> Path:
    """The file of a picture by its path here. Raises `NotFound`."""
    wanted = ROOT / "docs" / path.removeprefix("/docs/")
    for suffix in PICTURES:
        for file in (ROOT / "docs").rglob(f"*{suffix}"):
            if file == wanted:
                return file
    raise NotFound("there is no such picture")


def _documents() -> dict[str, Path]:
    """By their names: those of `docs/` without folder and `.md`, other texts with their suffix.

    That of JSON is written `-json`: behind a page's path `.json` asks for the page as data.
    """
    found = {name: ROOT / f"{name}.md" for name in ("README", "CHANGELOG")} | {"bench": ROOT / "bench" / "README.md"}
    for file in (ROOT / "docs").rglob("*"):
        if file.suffix == ".md" or file.suffix in _TEXTS:
            name = file.relative_to(ROOT / "docs").as_posix()
            found[re.sub(r"\.json$", "-json", name.removesuffix(".md"))] = file
    return {name: file for name, file in found.items() if file.is_file()}


def _title(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        heading = next((line for line in lines if line.startswith("# ")), f"# {file.stem}")
    return heading.removeprefix("# ").strip().replace("`", "")


# --- Markdown


@lru_cache(maxsize=100)
def _rendered(file: Path, _: int) -> tuple[str, str]:
    """Title and HTML of a file as it is since that moment."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".md":
        heading = f'<h1 class="nhsuk-heading-l">{escape(file.name)}</h1>'
        return file.name, f"{heading}\n{_code(text)}"
    markdown = _markdown()
    tokens = markdown.parse(text)
    _adapt(tokens, file.relative_to(ROOT).parent.as_posix())
    return _title(file), str(markdown.renderer.render(tokens, markdown.options, {}))


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    for name, open_with in {"table_open": '<div class="app-scroll" tabindex="0">', "table_close": ""}.items():
        made.add_render_rule(name, _around(open_with, "</div>\n" if name == "table_close" else ""))
    for name in ("fence", "code_block"):
        made.add_render_rule(name, _as_code)
    return made


def _around(before: str, after: str) -> Callable[..., str]:
    """A table as it would be, within something that scrolls: the page itself never does sideways."""

    def rule(renderer: Any, tokens: Sequence[Token], at: int, options: Any, _: Any) -> str:  # noqa: ANN401  the library's own signature
        return f"{before}{renderer.renderToken(tokens, at, options, {})}{after}"

    return rule


def _as_code(_: Any, tokens: Sequence[Token], at: int, __: Any, ___: Any) -> str:  # noqa: ANN401  the library's own signature
    return _code(tokens[at].content)


def _code(text: str) -> str:
    return f'<pre class="app-code" tabindex="0"><code>{escape(text)}</code></pre>\n'


_CLASSES: Final = {
    "h1": "nhsuk-heading-l",
    "h2": "nhsuk-heading-m",
    "h3": "nhsuk-heading-s",
    "ul": "nhsuk-list nhsuk-list--bullet",
    "ol": "nhsuk-list nhsuk-list--number",
    "table": "nhsuk-table",
    "th": "nhsuk-table__header",
    "td": "nhsuk-table__cell",
}


def _adapt(tokens: Sequence[Token], folder: str) -> None:
    """Our classes, headings that can be linked to, and links to where the documents are here."""
    slugs: Counter[str] = Counter()
    documents = {file.relative_to(ROOT).as_posix(): name for name, file in _documents().items()}
    for at, token in enumerate(tokens):
        token.attrs.pop("style", None)  # the content security policy lets none through
        if token.type == "th_open" and not tokens[at + 1].content:
            token.tag = tokens[at + 2].tag = "td"  # the corner of a table is no heading
        if token.nesting == 1 and token.tag in _CLASSES:
            token.attrSet("class", _CLASSES[token.tag])
        if token.type == "heading_open":
            token.attrSet("id", _slug(tokens[at + 1].content, slugs))
        if token.children:
            _lead(token.children, folder, documents)


def _slug(heading: str, known: Counter[str]) -> str:
    """The anchor that GitHub gives a heading, so that links work at both places."""
    slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
    known[slug] += 1
    return slug if known[slug] == 1 else f"{slug}-{known[slug] - 1}"


def _lead(inline: Sequence[Token], folder: str, documents: dict[str, str]) -> None:
    """Links and pictures to their places here; a link to what is not shipped is only its text."""
    for opened, closed in _links(inline):
        address = _address(str(opened.attrs["href"]), folder, documents)
        if address is None:
            opened.tag = closed.tag = "span"
            opened.attrs = {}
        else:
            opened.attrSet("href", address)
    for token in inline:
        if token.type == "image":
            source = posixpath.normpath(posixpath.join(folder, str(token.attrs["src"])))
            token.attrSet("src", f"/{source}" if source.startswith("docs/") else str(token.attrs["src"]))


def _links(inline: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """Opening and closing tokens; links hold no links."""
    opened = None
    for token in inline:
        if token.type == "link_open":
            opened = token
        elif token.type == "link_close" and opened:
            yield opened, token


def _address(href: str, folder: str, documents: dict[str, str]) -> str | None:
    """Where a link leads here; None when that is not shipped."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc or not parts.path:
        return href
    path = posixpath.normpath(posixpath.join(folder, parts.path))
    if path in ("docs", "docs/decisions"):
        return "/docs"
    if path.startswith("docs/") and path.endswith(PICTURES):
        return f"/{path}"
    name = documents.get(path)
    return f"/docs/{name}{'#' + parts.fragment if parts.fragment else ''}" if name else None


PAGES = (
    Page("/docs", "docs.html", "Docs", look),
    Page("/docs/{name:path}", "document.html", "Document", look_at_one),
)
