"""Images find their appointment: Orthanc's feed of changes is followed, nothing is missed and nothing is doubled.

Against Debian's Orthanc, with images that DCMTK's storescu sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orthanc_support import Images, RealOrthanc, send, until

from bench.synthetic import PERSON, schedule
from gateway.application import Gateway, opened
from gateway.domain.lifecycle import Status
from gateway.eventstore import replay
from gateway.orthanc.client import Orthanc, OrthancFailed, OrthancRefused, OrthancUnreachable, System
from gateway.orthanc.feed import FeedOptions, ImageFeed

pytestmark = pytest.mark.slow

IMAGES = "WorklistItem.ImagesReceived"


@pytest.fixture
def client(orthanc: RealOrthanc) -> Iterator[Orthanc]:
    client = Orthanc(orthanc.url)
    yield client
    client.close()


def feed_of(gateway: Gateway, client: Orthanc, **options: Any) -> ImageFeed:
    return ImageFeed(gateway, client, FeedOptions(**options))


def read_all(feed: ImageFeed) -> None:
    while feed.look():
        pass


def read_new(gateway: Gateway, client: Orthanc, **options: Any) -> None:
    """What a process that was just started reads."""
    read_all(feed_of(gateway, client, **options))


def events(gateway: Gateway, *kinds: str) -> list[Any]:
    with gateway.reading() as connection:
        found = [event.domain_event for event in replay.read(connection, gateway.mapper)]
    return [event for event in found if event.TOPIC.startswith(kinds)]


def topics(gateway: Gateway) -> list[str]:
    return [event.TOPIC for event in events(gateway, "ReceivedStudy.", IMAGES, "ImageFeed.", "StatusUpdate.")]


def arrive(files: list[Path], orthanc: RealOrthanc, **how: str) -> None:
    """They are sent, and Orthanc says that the study is stable."""
    send(files, orthanc, **how)
    until("Orthanc says that the study is stable", orthanc.is_stable)


def test_a_study_whose_accession_number_is_on_the_list_is_the_item_s(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    arrive(images.make(2) + images.make(1, new_series=True), orthanc)
    read_new(gateway, client)
    [received] = events(gateway, IMAGES)
    assert (received.accession_number, received.series, received.instances) == ("ACC001", 2, 3)
    assert (received.modalities, received.station_ae_title) == (["MG"], "MAMMO1")
    assert received.matched_by == ["accession_number"]
    assert received.metadata["source"] == "orthanc"
    [row] = gateway.studies_of("ACC001")
    assert (row.orthanc_id, row.instances, row.unmatched) == (orthanc.studies()[0], 3, "")


def test_a_study_whose_study_instance_uid_is_on_the_list_is_the_item_s(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    [item] = events(gateway, "WorklistItem.Scheduled")
    images.accession_number, images.study_instance_uid = "", item.study_instance_uid
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    [received] = events(gateway, IMAGES)
    assert (received.accession_number, received.matched_by) == ("ACC001", ["study_instance_uid"])


def test_images_change_no_status(gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images) -> None:
    schedule(gateway, "ACC001")
    gateway.correct_status("ACC001", Status.CANCELLED, reason="did not attend", operator="night shift")
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    assert [row.accession_number for row in gateway.latest_studies(9)] == ["ACC001"]
    assert gateway.count_by_status() == {"CANCELLED": 1}


@pytest.mark.parametrize(
    ("named", "patient_id", "why"),
    [
        ("ACC999", PERSON["patient_id"], "no item has the accession number or the Study Instance UID of the study"),
        ("ACC001", "9990000026", "the study is of another patient than item ACC001"),
    ],
    ids=["of nobody on the list", "of another patient (design §3.16)"],
)
def test_a_study_that_is_not_surely_an_item_s_is_shown_and_touches_none(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, named: str, patient_id: str, why: str
) -> None:
    schedule(gateway, "ACC001")
    images.accession_number, images.patient_id = named, patient_id
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    assert events(gateway, IMAGES) == []
    [row] = gateway.unmatched_studies()
    assert (row.accession_number, row.named, row.unmatched, row.patient_id) == ("", named, why, patient_id)
    assert [line.kind for line in gateway.timeline(named)][-1] == "ReceivedStudy.Received"


def test_keys_that_name_two_items_name_none(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    [_, second] = events(gateway, "WorklistItem.Scheduled")
    images.study_instance_uid = second.study_instance_uid
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    [row] = gateway.unmatched_studies()
    assert row.unmatched == "the keys of the study name two items"


def test_a_study_without_patient_id_is_the_item_s_that_it_names(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    images.patient_id = ""
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    assert [row.accession_number for row in gateway.latest_studies(9)] == ["ACC001"]


@pytest.mark.parametrize("correction", ["it is scheduled", "its Patient ID is corrected"])
def test_a_study_that_came_before_its_appointment_was_right_finds_it_later(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, correction: str
) -> None:
    if correction == "its Patient ID is corrected":
        schedule(gateway, "ACC001", patient_id="9990000026")
    arrive(images.make(2), orthanc)
    feed = feed_of(gateway, client, relink=0.0)
    read_all(feed)
    assert len(gateway.unmatched_studies()) == 1
    if correction == "it is scheduled":
        schedule(gateway, "ACC001")
    else:
        gateway.amend("ACC001", lambda _: {"patient_id": PERSON["patient_id"]})
    read_all(feed)
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC001"]
    before = gateway.check_store()
    read_all(feed)
    assert (gateway.unmatched_studies(), gateway.check_store()) == ([], before)


# --- nothing is doubled


def test_a_restart_reads_on_where_the_last_save_was(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    before = gateway.check_store()
    known = gateway.image_feed()
    assert known
    assert known.resume_after == known.change > 0
    read_new(gateway, client)
    assert gateway.check_store() == before


def test_images_that_come_later_are_told_with_the_new_counts(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    feed = feed_of(gateway, client)
    arrive(images.make(2), orthanc)
    read_all(feed)
    arrive(images.make(2), orthanc)
    read_all(feed)
    assert [(told.instances, told.arrival) for told in events(gateway, IMAGES)] == [(2, 1), (4, 2)]
    [row] = gateway.studies_of("ACC001")
    assert (row.instances, row.arrivals) == (4, 2)


def test_the_same_images_sent_again_change_nothing(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    feed = feed_of(gateway, client)
    files = images.make(2)
    arrive(files, orthanc)
    read_all(feed)
    last = orthanc.get("/changes?last")["Last"]
    send(files, orthanc)  # OverwriteInstances: Orthanc takes them anew, and says so
    until("the study is stable again", lambda: orthanc.get("/changes?last")["Last"] > last and orthanc.is_stable())
    read_all(feed)
    assert len(events(gateway, IMAGES)) == 1


def test_a_study_that_was_dropped_from_the_list_of_changes_is_not_awaited(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    feed = feed_of(gateway, client, overdue=0.0)
    send(images.make(), orthanc)
    read_all(feed)
    until("Orthanc has it", orthanc.studies)
    orthanc.delete(f"/studies/{orthanc.studies()[0]}")
    read_all(feed)
    assert (feed.status.awaited, feed.status.state) == (0, "following")


# --- nothing is missed


def test_what_came_while_nobody_followed_is_read_at_the_next_start(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, tmp_path: Path
) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    arrive(Images(tmp_path / "more", "ACC002").make(), orthanc)
    read_new(gateway, client)
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC001", "ACC002"]


def test_an_orthanc_that_was_killed_before_the_study_was_stable_loses_none(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, tmp_path: Path
) -> None:
    """It never says StableStudy then; the image that nobody explained is asked after."""
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    send(images.make(2), orthanc)
    orthanc.kill()
    orthanc.start()
    arrive(Images(tmp_path / "other", "ACC002").make(), orthanc)
    read_new(gateway, client)
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC002"]
    known = gateway.image_feed()
    assert known
    assert known.resume_after == 0  # the first image of the other study is still awaited
    read_new(gateway, client, overdue=0.0)
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC002", "ACC001"]
    assert events(gateway, IMAGES)[1].instances == 2


def test_images_of_a_study_that_is_not_whole_yet_are_waited_for(
    gateway: Gateway, start_orthanc: Any, images: Images
) -> None:
    orthanc = start_orthanc(stable_age=600)
    client = Orthanc(orthanc.url)
    schedule(gateway, "ACC001")
    send(images.make(2), orthanc)
    until("both are there", lambda: orthanc.instances() == 2)
    feed = feed_of(gateway, client, overdue=0.0)
    read_all(feed)
    assert (feed.status.awaited, events(gateway, IMAGES)) == (2, [])
    client.close()


def test_a_long_stretch_without_a_study_is_not_read_again(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    feed = feed_of(gateway, client)
    files = images.make(2)
    arrive(files, orthanc)
    read_all(feed)
    last = orthanc.get("/changes?last")["Last"]
    send(files, orthanc)
    until("the study is stable again", lambda: orthanc.get("/changes?last")["Last"] > last and orthanc.is_stable())
    read_new(gateway, client, stride=3)
    known = gateway.image_feed()
    assert known
    assert (topics(gateway)[-1], known.resume_after) == ("ImageFeed.Advanced", orthanc.get("/changes?last")["Last"])


# --- another Orthanc


def test_a_wiped_orthanc_is_noticed_and_followed_anew_without_doubling(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, tmp_path: Path
) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    feed = feed_of(gateway, client)
    files = images.make(3)
    arrive(files, orthanc)
    read_all(feed)
    orthanc.stop()
    orthanc.wipe()
    orthanc.start()
    read_all(feed)
    assert [told.number for told in events(gateway, "ImageFeed.Began")] == [1, 2]
    arrive(Images(tmp_path / "new", "ACC002").make(), orthanc)
    arrive(files, orthanc)
    read_all(feed)
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC001", "ACC002"]


def test_a_replaced_orthanc_is_noticed_also_when_it_has_more_changes(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, tmp_path: Path
) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    arrive(images.make(), orthanc)
    read_new(gateway, client)
    orthanc.stop()
    orthanc.wipe()
    orthanc.start()
    arrive(Images(tmp_path / "new", "ACC002").make(6), orthanc)
    read_new(gateway, client)
    assert [told.number for told in events(gateway, "ImageFeed.Began")] == [1, 2]
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC001", "ACC002"]


class Named(Orthanc):
    """Orthanc as it is, and what its database is called, as of 1.11.1."""

    database = "first"

    def system(self) -> System:
        return super().system().model_copy(update={"database": self.database})


def test_an_orthanc_that_says_so_is_known_by_its_database(
    gateway: Gateway, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    arrive(images.make(), orthanc)
    client = Named(orthanc.url)
    for client.database in ("first", "first", "second"):
        read_new(gateway, client)
    client.close()
    assert [told.database for told in events(gateway, "ImageFeed.Began")] == ["first", "second"]
    assert len(events(gateway, IMAGES)) == 1


def test_a_study_that_was_deleted_makes_no_other_orthanc_of_it(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    feed = feed_of(gateway, client)
    arrive(images.make(), orthanc)
    read_all(feed)
    orthanc.delete(f"/studies/{orthanc.studies()[0]}")
    read_all(feed)
    read_new(gateway, client)
    assert [told.number for told in events(gateway, "ImageFeed.Began")] == [1]
    assert [row.accession_number for row in gateway.latest_studies(9)] == ["ACC001"]


# --- when Orthanc can't be asked


def test_nobody_there_is_told_with_phase_code_and_remedy(gateway: Gateway, orthanc: RealOrthanc) -> None:
    orthanc.stop()
    client = Orthanc(orthanc.url)
    with pytest.raises(OrthancUnreachable, match=r"system: Orthanc does not answer.*GATEWAY_ORTHANC_URL") as refused:
        feed_of(gateway, client).look()
    assert refused.value.code == "orthanc_unreachable"
    client.close()


def test_a_wrong_password_is_told_with_the_settings_to_correct(gateway: Gateway, start_orthanc: Any) -> None:
    orthanc = start_orthanc(users={"gateway": "right"})
    for user, password in (("", ""), ("gateway", "wrong")):
        client = Orthanc(orthanc.url, user=user, password=password)
        with pytest.raises(OrthancRefused, match="GATEWAY_ORTHANC_USER") as refused:
            feed_of(gateway, client).look()
        assert (refused.value.phase, "wrong" in str(refused.value)) == ("system", False)
        client.close()
    client = Orthanc(orthanc.url, user="gateway", password="right")
    read_new(gateway, client)
    client.close()


class Poisoned(Orthanc):
    """Orthanc as it is, but one study that it can't tell of, or that can't be understood."""

    def __init__(self, url: str, orthanc_id: str, failure: Exception) -> None:
        super().__init__(url)
        self.orthanc_id, self.failure = orthanc_id, failure

    def content(self, orthanc_id: str) -> Any:
        if orthanc_id == self.orthanc_id:
            raise self.failure
        return super().content(orthanc_id)


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (OrthancFailed("Orthanc answers 500", phase="study"), "study: Orthanc answers 500"),
        (
            OrthancUnreachable("no answer: ReadTimeout", phase="study"),
            "study: no answer: ReadTimeout",
        ),
        (OrthancRefused("Orthanc answers 403", phase="study"), "study: Orthanc answers 403"),
        (OverflowError("SMITH^JANE"), "unexpected OverflowError: look at the log"),
    ],
)
def test_a_study_that_can_t_be_read_is_parked_and_the_others_go_on(
    gateway: Gateway, orthanc: RealOrthanc, images: Images, tmp_path: Path, failure: Exception, why: str
) -> None:
    schedule(gateway, "ACC002")
    arrive(images.make(), orthanc)
    [poison] = orthanc.studies()
    arrive(Images(tmp_path / "other", "ACC002").make(), orthanc)
    client = Poisoned(orthanc.url, poison, failure)
    feed = feed_of(gateway, client)
    for _ in range(2):
        with pytest.raises(type(failure)):
            read_all(feed)
    read_all(feed)
    assert [(row.orthanc_id, row.why) for row in gateway.parked_studies()] == [(poison, why)]
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC002"]
    read_new(gateway, client)
    assert len(gateway.parked_studies()) == 1
    client.close()


class Silent(Poisoned):
    """Orthanc goes down whenever it is asked for that study."""

    def content(self, orthanc_id: str) -> Any:
        self.is_down = orthanc_id == self.orthanc_id
        return super().content(orthanc_id)

    def changes(self, since: int, limit: int) -> Any:
        self.is_down = False
        return super().changes(since, limit)

    def system(self) -> Any:
        if getattr(self, "is_down", False):
            raise OrthancUnreachable("Orthanc does not answer", phase="system")
        return super().system()


def test_while_orthanc_is_away_no_study_is_to_blame_and_one_that_takes_it_down_is_passed_over_in_the_end(
    gateway: Gateway, orthanc: RealOrthanc, images: Images, tmp_path: Path
) -> None:
    schedule(gateway, "ACC002")
    arrive(images.make(), orthanc)
    [poison] = orthanc.studies()
    arrive(Images(tmp_path / "other", "ACC002").make(), orthanc)
    client = Silent(orthanc.url, poison, OrthancUnreachable("Orthanc does not answer", phase="study"))
    feed = feed_of(gateway, client)
    for _ in range(9):
        with pytest.raises(OrthancUnreachable):
            read_all(feed)
        assert gateway.parked_studies() == []
    read_all(feed)
    assert [row.orthanc_id for row in gateway.parked_studies()] == [poison]
    assert [told.accession_number for told in events(gateway, IMAGES)] == ["ACC002"]
    client.close()


# --- the web app


def test_the_web_app_is_owed_news_only_when_that_is_switched_on(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    feed = feed_of(gateway, client)
    arrive(images.make(2), orthanc)
    read_all(feed)
    assert gateway.find_updates() == []
    arrive(images.make(2), orthanc)
    feed.options = FeedOptions(tell_web_app=True)
    read_all(feed)
    [update] = gateway.find_updates()
    assert (update.event_type, update.sequence, update.status) == ("study.images_received", 1, "")
    assert update.images == {"series_count": 1, "image_count": 4, "modalities": ["MG"]}
    assert (update.action_id, update.study_instance_uid) == ("create-ACC001", images.study_instance_uid)


def test_all_of_it_is_the_same_after_a_rebuild(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images, database: Path, tmp_path: Path
) -> None:
    schedule(gateway, "ACC001")
    arrive(images.make(), orthanc)
    arrive(Images(tmp_path / "nobody", "ACC999").make(), orthanc)
    read_new(gateway, client, tell_web_app=True)
    rows = gateway.latest_studies(9)
    assert gateway.verify_projections() == []
    gateway.rebuild_projections()
    assert gateway.latest_studies(9) == rows
    with opened(database) as another:
        assert another.image_feed() == gateway.image_feed()
