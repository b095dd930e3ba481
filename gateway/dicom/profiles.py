"""How each modality is served: whether it may call, and what its machine needs.

A profile holds what a site decides; everything has a default that suits a unit nobody has described.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one modality is served."""

    ae_title: str = ""
    """Its own AE title; "" in the profile of those that have none."""
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where it may call from; none: anywhere."""
    admitted: bool = True
    stations: tuple[str, ...] = ()
    """Station AE titles that stand for one another: a key that names one finds the items of all. None: no others."""
    only_own_stations: bool = False
    """A query that leaves the station open is shown the items of `stations` only (of its own title without any)."""
    items_without_station: bool = True
    """Whether an item without a station is for this unit too (design §3.15)."""
    character_set: str = ""
    """The Specific Character Set of queries that declare none, such as `ISO_IR 100`; "" is ASCII."""
    reads_utf8: bool = False
    """Whether it is known to read ISO_IR 192 although it asks in another set."""
    answer_limit: int | None = None
    """At most so many answers to one query."""
    limit_status: Literal["out-of-resources", "success"] = "out-of-resources"
    """How a list that was cut ends: 0xA700, or 0x0000 for units that drop the list otherwise."""
    omit_keys: tuple[int, ...] = ()
    """Tags that it can't stand in an answer, even if it asks for them."""


DEFAULT = Profile()
