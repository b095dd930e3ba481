"""Profiles of modalities: what the file may say, what is refused and how it is told, and what each profile does."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from dicom_samples import InMemory, captured_logs, from_bytes, query, row, to_bytes
from pydicom.dataset import Dataset

from gateway.dicom import identifier, matching
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.profiles import DEFAULT, EVERYBODY, ModalitiesInvalid, Profile, Profiles, load
from gateway.dicom.responder import Responder
from gateway.errors import SettingsInvalid
from projections.worklist import WorklistRow

SAMPLE = Path(__file__).parents[2] / "docs" / "modalities.sample.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "modalities.toml"


def loaded(file: Path, text: str) -> Profiles:
    file.write_text(text, encoding="utf-8")
    return load(file)


def problems(file: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ModalitiesInvalid) as refused:
        loaded(file, text)
    return refused.value.problems


# --- the file


def test_without_a_file_everybody_is_admitted_and_served_alike() -> None:
    assert load(None) is EVERYBODY
    assert EVERYBODY.rejection("ANYBODY", "192.0.2.7") is None
    assert EVERYBODY.of("MAMMO1") == Profile(ae_title="MAMMO1")


def test_an_empty_file_says_nothing(file: Path) -> None:
    assert loaded(file, "") == EVERYBODY


def test_a_modality_says_what_it_needs_and_inherits_the_rest(file: Path) -> None:
    profiles = loaded(
        file,
        """
        [default]
        character_set = 'ISO_IR 100'
        answer_limit = 500
        reads_utf8 = true
        [[modality]]
        ae_title = "MAMMO1"
        addresses = ["10.1.2.3", "10.1.3.0/24", "fd00::/64"]
        stations = ["ROOM4"]
        only_own_stations = true
        items_without_station = false
        reads_utf8 = false
        answer_limit = 200
        limit_status = "success"
        omit_keys = ["PatientSize", "(0040,0008)", "0032,1064"]
        [[modality]]
        ae_title = "MAMMO2"
        admitted = false
        """,
    )
    assert profiles.of("MAMMO1") == Profile(
        ae_title="MAMMO1",
        addresses=tuple(map(ip_network, ("10.1.2.3/32", "10.1.3.0/24", "fd00::/64"))),
        stations=("ROOM4",),
        only_own_stations=True,
        items_without_station=False,
        character_set="ISO_IR 100",
        answer_limit=200,
        limit_status="success",
        omit_keys=(0x00101020, 0x00400008, 0x00321064),
    )
    assert profiles.of("MAMMO2") == Profile(
        ae_title="MAMMO2", admitted=False, character_set="ISO_IR 100", answer_limit=500, reads_utf8=True
    )
    assert profiles.of("OTHER") == Profile(
        ae_title="OTHER", character_set="ISO_IR 100", answer_limit=500, reads_utf8=True
    )


def test_a_file_from_an_editor_that_marks_utf_8_is_read(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf[[modality]]\nae_title = "MAMMO1"\n')
    assert [profile.ae_title for profile in load(file).modalities] == ["MAMMO1"]


ENTRY = '[[modality]]\nae_title = "MAMMO1"\n'

INVALID = {
    "strangerz = 'refused'": "strangerz: there is no such key; is strangers meant?",
    "answer_limit = 5": "answer_limit: belongs under [default] or a [[modality]]",
    "strangers = 'some'": "strangers: must be 'admitted' or 'refused'",
    "[default]\nadmitted = false": "[default] admitted: there is no such key",
    "[default]\nae_title = 'X'": "[default] ae_title: there is no such key",
    "default = 3": "[default]: must be a table",
    "[modality]\nae_title = 'X'": "[modality]: is written [[modality]], once for each unit",
    "modality = [3]": "[[modality]] 1: must be a table",
    "[[modality]]": "[[modality]] 1 ae_title: is missing",
    "[[modality]]\nae_title = 'SEVENTEEN LETTERS'": (
        "[[modality]] 1 (SEVENTEEN LETTERS) ae_title: must be an AE title: 1 to 16 ASCII characters without backslash"
    ),
    "[[modality]]\nae_title = ' X'": "[[modality]] 1 ( X) ae_title: must not begin or end with a space",
    "[[modality]]\nae_title = 7": "[[modality]] 1 ae_title: must be a text in quotes",
    ENTRY + ENTRY: "[[modality]] MAMMO1: has 2 entries",
    ENTRY + "adresses = []": "[[modality]] 1 (MAMMO1) adresses: there is no such key; is addresses meant?",
    ENTRY + "addresses = '10.1.2.3'": "[[modality]] 1 (MAMMO1) addresses: must be a list in [brackets]",
    ENTRY + "addresses = [10]": "[[modality]] 1 (MAMMO1) addresses: must be addresses in quotes",
    ENTRY + "addresses = ['10.1.2']": (
        "[[modality]] 1 (MAMMO1) addresses: 10.1.2 is no address such as 10.1.2.3, and no network such as 10.1.2.0/24"
    ),
    ENTRY + "addresses = ['10.1.2.3/24']": (
        "[[modality]] 1 (MAMMO1) addresses: 10.1.2.3/24 is no address such as 10.1.2.3, and no network such as "
        "10.1.2.0/24; its bits beyond the network must be 0"
    ),
    ENTRY + "admitted = 'no'": "[[modality]] 1 (MAMMO1) admitted: must be true or false",
    ENTRY + "stations = ['A\\\\B']": (
        "[[modality]] 1 (MAMMO1) stations: must be an AE title: 1 to 16 ASCII characters without backslash"
    ),
    ENTRY + "character_set = 'LATIN1'": (
        "[[modality]] 1 (MAMMO1) character_set: LATIN1 is no Specific Character Set, such as ISO_IR 100 or ISO_IR 192"
    ),
    ENTRY + "reads_utf8 = 1": "[[modality]] 1 (MAMMO1) reads_utf8: must be true or false",
    ENTRY + "answer_limit = 0": "[[modality]] 1 (MAMMO1) answer_limit: must be at least 1",
    ENTRY + "answer_limit = 1.5": "[[modality]] 1 (MAMMO1) answer_limit: must be a whole number",
    ENTRY + "limit_status = 'fail'": (
        "[[modality]] 1 (MAMMO1) limit_status: must be 'out-of-resources' or 'success'"
    ),
    ENTRY + "omit_keys = ['PatientNames']": (
        "[[modality]] 1 (MAMMO1) omit_keys: PatientNames is no keyword of DICOM and no tag such as 0040,0008"
    ),
    ENTRY + "omit_keys = [0x00100010]": "[[modality]] 1 (MAMMO1) omit_keys: must be keywords or tags in quotes",
    ENTRY + "omit_keys = ['0008,0005']": (
        "[[modality]] 1 (MAMMO1) omit_keys: SpecificCharacterSet can't be left out: it tells how to read the answer"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", INVALID, ids=[told.partition(": ")[0] for told in INVALID.values()])
def test_what_can_t_be_used_is_told_by_its_place_its_key_and_what_is_wrong(file: Path, text: str) -> None:
    assert problems(file, text) == (INVALID[text],)


def test_all_problems_are_told_at_once(file: Path) -> None:
    found = problems(file, "strangers = 1\n[default]\nanswer_limit = 0\n" + ENTRY + "x = 1\n" + ENTRY)
    assert [line.partition(":")[0] for line in found] == [
        "strangers", "[default] answer_limit", "[[modality]] 1 (MAMMO1) x", "[[modality]] MAMMO1",
    ]  # fmt: skip


def test_an_invalid_file_is_an_invalid_setting_that_names_the_file(file: Path) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        loaded(file, "[default]\nanswer_limit = 0")
    assert str(refused.value).startswith(
        f"GATEWAY_MODALITIES_FILE: {file}: [default] answer_limit: must be at least 1 → "
    )
    assert refused.value.code == "settings_invalid"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"[default", "is no TOML: "), (b"# M\xfcller", "is not UTF-8"), (None, "can't be read: No such file")],
)
def test_a_file_that_is_none_is_told(file: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModalitiesInvalid, match=told):
        load(file)


# --- the sample


def test_the_sample_can_be_used_as_it_is() -> None:
    profiles = load(SAMPLE)
    assert [profile.ae_title for profile in profiles.modalities] == ["MAMMO1", "MAMMO2"]
    assert profiles.default == DEFAULT


def test_the_sample_can_be_used_with_every_example_switched_on_and_shows_every_key(file: Path) -> None:
    text = re.sub(r"^#(\w+ = )", r"\1", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    profiles = loaded(file, text)
    first, second = profiles.modalities
    assert first.stations == ("ROOM4", "MAMMO2")
    assert (second.admitted, profiles.strangers_admitted) == (False, True)
    keys = set(re.findall(r"^(\w+) = ", text, flags=re.MULTILINE))
    assert keys == {"strangers", *Profile.__dataclass_fields__}


def test_the_readme_s_example_can_be_used(file: Path) -> None:
    readme = SAMPLE.parents[1].joinpath("README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    assert [profile.ae_title for profile in loaded(file, example).modalities] == ["MAMMO1"]


# --- admission


LISTED = Profiles(modalities=(
    Profile(ae_title="MAMMO1", addresses=(ip_network("10.1.2.3"), ip_network("10.1.3.0/24"))),
    Profile(ae_title="MAMMO2", admitted=False),
    Profile(ae_title="MAMMO3"),
), strangers_admitted=False)  # fmt: skip


@pytest.mark.parametrize(
    ("ae_title", "address", "remedy"),
    [
        ("MAMMO1", "10.1.2.3", None),
        ("MAMMO1", "10.1.3.200", None),
        ("MAMMO1", "::ffff:10.1.2.3", None),
        ("MAMMO3", "192.0.2.1", None),
        ("MAMMO1", "10.1.2.4", "MAMMO1 may not call from 10.1.2.4"),
        ("MAMMO1", "fd00::1%eth0", "MAMMO1 may not call from fd00::1%eth0"),
        ("MAMMO1", "", "MAMMO1 may not call from "),
        ("MAMMO2", "10.1.2.3", "MAMMO2 has admitted = false"),
        ("MAMMO9", "10.1.2.3", "MAMMO9 is not in GATEWAY_MODALITIES_FILE: add it there"),
        ("mammo1", "10.1.2.3", "mammo1 is not in GATEWAY_MODALITIES_FILE: add it there"),
    ],
)
def test_who_is_admitted_from_where(ae_title: str, address: str, remedy: str | None) -> None:
    rejection = LISTED.rejection(ae_title, address)
    assert (rejection is None) == (remedy is None)
    if rejection and remedy:
        assert (rejection.source, rejection.reason) == (1, 3)
        assert rejection.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("text", "admitted"),
    [
        ("", True),
        ("[default]\nanswer_limit = 5", True),
        (ENTRY, False),
        (ENTRY.replace("[[", "strangers = 'admitted'\n[[", 1), True),
        ("strangers = 'refused'", False),
    ],
)
def test_strangers_are_refused_as_soon_as_there_is_a_list_unless_it_says_otherwise(
    file: Path, text: str, admitted: bool
) -> None:
    assert (loaded(file, text).rejection("STRANGER", "192.0.2.7") is None) == admitted


def test_an_address_rule_for_everybody_holds_for_strangers_too(file: Path) -> None:
    profiles = loaded(file, "[default]\naddresses = ['10.0.0.0/8']")
    assert profiles.rejection("STRANGER", "10.1.1.1") is None
    assert profiles.rejection("STRANGER", "192.0.2.7")


# --- stations

ITEMS = [
    row("ROOM4", station_ae_titles=("ROOM4",)),
    row("OWN", station_ae_titles=("MAMMO1",)),
    row("OTHER", station_ae_titles=("MAMMO2",)),
    row("BOTH", station_ae_titles=("MAMMO2", "ROOM4")),
    row("NONE"),
]
GROUP = Profile(ae_title="MAMMO1", stations=("ROOM4",))
OPEN: list[dict[str, str]] = [{}, {"ScheduledStationAETitle": ""}, {"ScheduledStationAETitle": "*"}]


def listed(profile: Profile, step: dict[str, str]) -> str:
    plan = matching.plan(
        identifier.read(to_bytes(query({"Modality": "MG", **step})), IMPLICIT),
        listed_statuses=["SCHEDULED"],
        test_items=False,
        profile=profile,
    )
    return " ".join(item.accession_number for item in ITEMS if plan.matches(item))


@pytest.mark.parametrize("asked", ["MAMMO1", "ROOM4", "MAMMO1\\ROOM4", "ROOM?"])
def test_a_key_that_names_one_station_of_the_group_finds_the_items_of_all(asked: str) -> None:
    assert listed(GROUP, {"ScheduledStationAETitle": asked}) == "ROOM4 OWN BOTH NONE"


@pytest.mark.parametrize(
    ("profile", "asked", "found"),
    [
        (Profile(ae_title="MAMMO1"), "MAMMO1", "OWN NONE"),
        (GROUP, "MAMMO2", "OTHER BOTH NONE"),
        (GROUP, "MAMMO2\\MAMMO1", "ROOM4 OWN OTHER BOTH NONE"),
        (Profile(ae_title="MAMMO1", only_own_stations=True), "MAMMO2", "OTHER BOTH NONE"),
        (Profile(ae_title="MAMMO1", items_without_station=False), "MAMMO1", "OWN"),
    ],
)
def test_a_station_that_is_asked_for_is_honoured_as_asked(profile: Profile, asked: str, found: str) -> None:
    assert listed(profile, {"ScheduledStationAETitle": asked}) == found


@pytest.mark.parametrize("step", OPEN)
@pytest.mark.parametrize(
    ("profile", "found"),
    [
        (DEFAULT, "ROOM4 OWN OTHER BOTH NONE"),
        (GROUP, "ROOM4 OWN OTHER BOTH NONE"),
        (Profile(ae_title="MAMMO1", only_own_stations=True), "OWN NONE"),
        (Profile(ae_title="MAMMO1", stations=("ROOM4",), only_own_stations=True), "ROOM4 OWN BOTH NONE"),
        (Profile(ae_title="MAMMO1", only_own_stations=True, items_without_station=False), "OWN"),
        (Profile(ae_title="MAMMO1", items_without_station=False), "ROOM4 OWN OTHER BOTH"),
    ],
)
def test_when_the_station_is_left_open_the_profile_says_what_is_shown(
    profile: Profile, step: dict[str, str], found: str
) -> None:
    assert listed(profile, step) == found


def missed(profile: Profile, step: dict[str, str], item: WorklistRow) -> list[tuple[tuple[int, ...], str, str]]:
    read = identifier.read(to_bytes(query({"Modality": "MG", **step})), IMPLICIT)
    plan = matching.plan(read, listed_statuses=["SCHEDULED"], test_items=False, profile=profile)
    return [(c.tags, c.clause, c.asked) for c in plan.criteria if not c.matches(item)]


def test_a_miss_names_the_rule_of_the_profile() -> None:
    own = Profile(ae_title="MAMMO1", stations=("ROOM4",), only_own_stations=True, items_without_station=False)
    station = (0x00400001,)
    assert missed(own, {}, ITEMS[2]) == [(station, "profile: only_own_stations", "MAMMO1\\ROOM4")]
    assert missed(own, {}, ITEMS[4]) == [(station, "profile: items_without_station", "a station")]
    assert missed(own, {"ScheduledStationAETitle": "ROOM4"}, ITEMS[2]) == [
        (station, "profile: stations", "ROOM4\\MAMMO1")
    ]
    assert missed(Profile(ae_title="MAMMO1"), {"ScheduledStationAETitle": "MAMMO1"}, ITEMS[2]) == [
        (station, "PS3.4 C.2.2.2.1 and K.6.1.2.2", "MAMMO1")
    ]


# --- served by the responder


def served(profiles: Profiles, request: Dataset, items: list[WorklistRow], ae_title: str = "MAMMO1") -> list[Any]:
    responder = Responder(InMemory(items), profiles=profiles)
    caller = Caller(ae_title, "ORTHANC_MWL", "192.0.2.7", 50000)
    return list(responder.find(caller, to_bytes(request), IMPLICIT, lambda: False))


def test_the_profile_is_the_one_of_the_calling_ae_title() -> None:
    profiles = Profiles(default=Profile(answer_limit=2), modalities=(Profile(ae_title="MAMMO1", answer_limit=1),))
    items = [row("C", scheduled_date="20261125"), row("A"), row("B", scheduled_date="20261124")]
    for ae_title, shown in (("MAMMO1", ["A"]), ("STRANGER", ["A", "B"])):
        with captured_logs() as logs:
            *answers, final = served(profiles, query({}, AccessionNumber=""), items, ae_title)
        assert [from_bytes(answer.identifier).AccessionNumber for answer in answers] == shown  # the far future is cut
        assert final.status == 0xA700
        assert [line["calling_ae"] for line in logs if line["event"] == "answers_cut"] == [ae_title]


def test_an_item_of_the_group_is_answered_with_the_station_that_was_asked_for() -> None:
    profiles = Profiles(modalities=(GROUP,))
    request = query({"ScheduledStationAETitle": "MAMMO1"}, AccessionNumber="")
    *answers, _ = served(profiles, request, ITEMS)
    stations = {a.AccessionNumber: a.ScheduledProcedureStepSequence[0].ScheduledStationAETitle for a in
                (from_bytes(answer.identifier) for answer in answers)}  # fmt: skip
    assert stations == {"OWN": "MAMMO1", "ROOM4": "MAMMO1", "BOTH": "MAMMO1", "NONE": "MAMMO1"}


def test_a_query_that_declares_no_set_is_read_in_the_profile_s() -> None:
    request = Dataset()
    request.add_new(0x00100010, "PN", "M\xdcLLER".encode("latin-1"))
    items = [row(patient_name="MÜLLER"), row("B")]
    (refused,) = served(EVERYBODY, request, items)
    assert (refused.status, refused.offending_elements) == (0xA900, (0x00100010,))
    answer, final = served(Profiles(default=Profile(character_set="ISO_IR 100")), request, items)
    assert (str(from_bytes(answer.identifier).PatientName), final.status) == ("MÜLLER", 0x0000)


def test_text_that_had_to_change_is_logged_without_a_name() -> None:
    items = [row("A", patient_name="MÜLLER"), row("B", patient_name="Wang=王"), row("C"), row("D", patient_name="ŁAZ")]
    with captured_logs() as logs:
        served(EVERYBODY, query(PatientName=""), items)
    told = {line["event"]: line for line in logs if line["log_level"] == "warning"}
    assert told.keys() == {"answer_transliterated", "answer_beyond_character_set"}
    line = told["answer_transliterated"]
    assert (line["accession_numbers"], line["character_set"]) == (["A", "D"], "ISO_IR 6")
    assert (line["calling_ae"], line["address"]) == ("MAMMO1", "192.0.2.7")
    assert told["answer_beyond_character_set"]["accession_numbers"] == ["B"]
    assert not any(name in str(logs) for name in ("MÜLLER", "MULLER", "Wang", "ŁAZ", "LAZ"))
