"""Who may call, on the wire: an A-ASSOCIATE-RJ with the right reason (PS3.8 9.3.4), and a log line with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import pytest
from dicom_samples import AE_TITLE, InMemory, captured_logs, query, row
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind
from raw_peer import rejection

from gateway.dicom.engines import AssociationServer
from gateway.dicom.profiles import Profile, Profiles
from gateway.dicom.responder import Responder
from gateway.rehearsal.requestor import associate
from tests.serving import serving

PROFILES = Profiles(
    modalities=(
        Profile(ae_title="MAMMO1", addresses=(ip_network("127.0.0.0/8"),), answer_limit=2),
        Profile(ae_title="MAMMO2", addresses=(ip_network("10.1.2.3"),)),
        Profile(ae_title="MAMMO3", admitted=False),
        Profile(ae_title="QUIET", answer_limit=2, limit_status="success"),
        Profile(ae_title="EXACT", answer_limit=3),
    ),
    strangers_admitted=False,
)


@contextmanager
def admitting(profiles: Profiles = PROFILES, **settings: bool) -> Iterator[AssociationServer]:
    responder = Responder(InMemory([row("A"), row("B"), row("C")]), profiles=profiles)
    with serving(responder, **settings) as server:
        yield server


def outcome(server: AssociationServer, calling: str, *, called: str = AE_TITLE) -> tuple[int, int, int] | str:
    """`established`, or result, source and reason of the rejection."""
    return rejection(server.port, calling=calling.encode(), called=called.encode()) or "established"


@pytest.mark.parametrize(
    ("calling", "reason", "remedy"),
    [
        (
            "MAMMO9",
            "the calling AE title is not in the list of modalities",
            "MAMMO9 is not in GATEWAY_MODALITIES_FILE: add it there if it is one of yours",
        ),
        (
            "MAMMO2",
            "the calling AE title may not call from this address",
            "MAMMO2 may not call from 127.0.0.1: see addresses in GATEWAY_MODALITIES_FILE",
        ),
        (
            "MAMMO3",
            "the list of modalities does not admit the calling AE title",
            "MAMMO3 has admitted = false in GATEWAY_MODALITIES_FILE",
        ),
    ],
)
def test_who_is_not_admitted_is_rejected_1_1_3_and_the_log_says_what_to_do(
    calling: str, reason: str, remedy: str
) -> None:
    with admitting() as server, captured_logs() as logs:
        assert outcome(server, calling) == (1, 1, 3)
        assert outcome(server, "MAMMO1") == "established"
    refused = [line for line in logs if line["event"] == "association_refused"]
    assert [(line["calling_ae"], line["address"], line["reason"], line["remedy"]) for line in refused] == [
        (calling, "127.0.0.1", reason, remedy)
    ]


def test_a_wrong_called_ae_title_stays_1_1_7_for_known_and_unknown() -> None:
    with admitting() as server, captured_logs() as logs:
        assert outcome(server, "MAMMO1", called="NOBODY") == (1, 1, 7)
        assert outcome(server, "MAMMO9", called="NOBODY") == (1, 1, 7)
    assert len([line for line in logs if line["event"] == "association_refused"]) == 2


def test_with_any_called_ae_title_the_list_still_holds() -> None:
    with admitting(accept_any_called_ae=True) as server:
        assert outcome(server, "MAMMO1", called="NOBODY") == "established"
        assert outcome(server, "MAMMO9", called="NOBODY") == (1, 1, 3)


def test_without_a_list_everybody_is_admitted() -> None:
    with admitting(Profiles()) as server:
        assert outcome(server, "MAMMO9") == "established"


def test_a_stranger_who_keeps_calling_keeps_nobody_out() -> None:
    with admitting() as server:
        assert [outcome(server, "MAMMO9") for _ in range(5)] == [(1, 1, 3)] * 5
        assert outcome(server, "MAMMO1") == "established"


@pytest.mark.parametrize(
    ("calling", "statuses", "comment"),
    [
        ("MAMMO1", [0xFF00, 0xFF00, 0xA700], "more items match: 2 shown, narrow the query"),
        ("QUIET", [0xFF00, 0xFF00, 0x0000], None),
        ("EXACT", [0xFF00, 0xFF00, 0xFF00, 0x0000], None),
    ],
)
def test_a_list_that_is_cut_ends_as_the_profile_says(calling: str, statuses: list[int], comment: str | None) -> None:
    with admitting() as server:
        entity = AE(ae_title=calling)
        entity.add_requested_context(ModalityWorklistInformationFind)
        peer = associate(entity, "127.0.0.1", server.port, ae_title=AE_TITLE)
        answers = list(peer.send_c_find(query({}, AccessionNumber=""), ModalityWorklistInformationFind))
        peer.release()
    assert [status.Status for status, _ in answers] == statuses
    assert [identifier is None for _, identifier in answers] == [False] * (len(statuses) - 1) + [True]
    assert answers[-1][0].get("ErrorComment") == comment
