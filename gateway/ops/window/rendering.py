"""Templates: the NHS's components and our pages, compiled once. What they are given is data; they decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import nhsuk_frontend_jinja
from jinja2 import ChainableUndefined, ChoiceLoader, Environment, FileSystemLoader, PackageLoader
from markupsafe import Markup

from gateway import __version__
from gateway.ops.window.sources import Sources
from gateway.ops.window.step import address

STYLESHEET = "nhsuk-frontend-10.6.1.min.css"

PAGES = (
    ("clinic", "Clinic"),
    ("modalities", "Modalities"),
    ("relay", "Relay"),
    ("outbox", "Outbox"),
    ("unmatched", "Unmatched steps"),
    ("images", "Images"),
    ("events", "Events"),
    ("health", "Health"),
    ("docs", "Docs"),
)
"""The pages of the navigation: path and title."""

_COLOURS = {
    "SCHEDULED": "blue",
    "IN PROGRESS": "yellow",
    "COMPLETED": "green",
    "DISCONTINUED": "orange",
    "CANCELLED": "grey",
    "EXPIRED": "grey",
    "acknowledged": "green",
    "waiting": "yellow",
    "parked": "red",
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "asking": "green",
    "silent": "red",
    "refused": "red",
    "hearing": "green",
    "deaf": "red",
    "connected": "green",
    "failing": "red",
    "following": "green",
    "routed": "green",
    "abandoned": "grey",
}


def environment(sources: Sources) -> Environment:
    """The templates, with the site's clock and the few words they share."""
    made = Environment(
        loader=ChoiceLoader(
            [
                PackageLoader("gateway.ops.window"),
                FileSystemLoader(f"{nhsuk_frontend_jinja.__path__[0]}/templates"),
            ]
        ),
        autoescape=True,
        undefined=ChainableUndefined,  # what the NHS's templates are written for
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "clock": sources.clock,
        "moment": lambda instant: sources.clock(instant, "%Y-%m-%d %H:%M:%S"),
        "exact": lambda instant: sources.clock(instant, "%Y-%m-%d %H:%M:%S.%f")[:-3],
        "day": _day,
        "quoted": lambda text: quote(text, safe=""),  # Jinja's urlencode leaves a slash as it is
        "step_address": address,
        "dashed": lambda day: f"{day[:4]}-{day[4:6]}-{day[6:]}",
        "words": lambda text: str(text).replace("_", " "),
    }
    made.filters["tag"] = _tags(made)
    made.globals |= {"pages": PAGES, "stylesheet": STYLESHEET, "version": __version__}
    return made


def renderer(templates: Environment, name: str, argument: str) -> Callable[[Any], str]:
    """A function that renders a small template of one value."""
    template = templates.get_template(name)
    return lambda value: template.render({argument: value})


@lru_cache(128)
def _tags(templates: Environment) -> Callable[[str], Markup]:
    """A status as the NHS's tag; its word says it, the colour only underlines."""
    component: Any = templates.get_template("nhsuk/components/tag/macro.jinja").module

    @lru_cache(maxsize=64)
    def tag(status: str) -> Markup:
        word = status.capitalize() if status.isupper() else status
        classes = f"nhsuk-tag--{_COLOURS.get(status, 'white')}"
        return Markup(component.tag({"text": word, "classes": classes}).strip())  # noqa: S704  it has escaped the word

    return tag


def _day(day: str) -> str:
    then = datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007  a calendar day, no instant
    return f"{then:%A} {then.day} {then:%B %Y}"
