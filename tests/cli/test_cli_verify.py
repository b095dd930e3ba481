"""`gateway events verify` and `gateway events anchor`: what is said of each forgery, with and without an anchor."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cli_support import Command, Outcome

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.eventstore import chain
from gateway.eventstore.anchors import note_restore
from gateway.eventstore.ownership import Ownership

CUT, OLD, REWRITTEN = (
    "an end that was cut off together with SQLite's own count of events",
    "an older copy of the whole file that was put back",
    "a history that was rewritten from some event on, with all links after it",
)


@pytest.fixture
def log(database: Path, examined: Callable[[int], None], gateway: Gateway) -> Path:
    """Three examinations, thirty events; a backup after two of them lies beside it. Nobody has it open."""
    for number in (1, 2):
        examined(number)
    with closing(sqlite3.connect(backup_of(database))) as copy, closing(sqlite3.connect(database)) as original:
        original.backup(copy)
    examined(3)
    gateway.close()
    return database


def backup_of(database: Path) -> Path:
    return database.with_name("backup.db")


def anchor_of(database: Path, position: int) -> str:
    with closing(sqlite3.connect(database)) as prompt:
        link = prompt.execute("SELECT link FROM event_chain WHERE position = ?", (position,)).fetchone()[0]
    return f"{position}:{link.hex()}"


def tamper(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as prompt, prompt:
        for statement in statements:
            assert prompt.execute(statement).rowcount


ALTER = "UPDATE stored_events SET state = CAST(replace(state, 'SMITH', 'JONES') AS BLOB) WHERE rowid = 11"
CUT_BOTH = ("DELETE FROM stored_events WHERE rowid > 25", "DELETE FROM event_chain WHERE position > 25")
COUNT = "UPDATE sqlite_sequence SET seq = 25 WHERE name = 'stored_events'"


def put_back(database: Path) -> None:
    for side in ("", "-wal", "-shm"):
        database.with_name(database.name + side).unlink(missing_ok=True)
    shutil.copy(backup_of(database), database)


def rewrite(database: Path) -> None:
    """The eleventh event altered, and all links from it on computed anew."""
    tamper(database, ALTER)
    with closing(sqlite3.connect(database)) as prompt, prompt:
        [previous] = prompt.execute("SELECT link FROM event_chain WHERE position = 10").fetchone()
        rows = prompt.execute(
            "SELECT e.rowid, originator_id, originator_version, topic, committed_at, state FROM stored_events e"
            " JOIN event_chain c ON c.position = e.rowid WHERE e.rowid > 10 ORDER BY e.rowid"
        ).fetchall()
        for row in rows:
            previous = chain.link(previous, *row)
            prompt.execute("UPDATE event_chain SET link = ? WHERE position = ?", (previous, row[0]))


def said(outcome: Outcome) -> list[str]:
    return [line.strip() for line in outcome.err.splitlines()]


# --- without an anchor


def test_an_intact_log_is_told_with_its_head_and_with_what_this_can_not_show(log: Path, run: Command) -> None:
    outcome = run("events", "verify")
    assert (outcome.code, outcome.out) == (0, f"intact: 30 events, head {anchor_of(log, 30)}\n")
    assert said(outcome)[0] == "this can't show:"
    assert said(outcome)[1:4] == [CUT, OLD, REWRITTEN]
    assert "--anchor" in said(outcome)[4]


NAIVE = {
    "altered": ((ALTER,), 11, "altered"),
    "deleted": (("DELETE FROM stored_events WHERE rowid = 11",), 11, "missing"),
    "swapped": (
        tuple(
            f"UPDATE stored_events SET rowid = {new} WHERE rowid = {old}"
            for old, new in ((11, 1000), (13, 11), (1000, 13))
        ),
        11,
        "altered",
    ),
    "inserted": (
        ("INSERT INTO stored_events SELECT 31, originator_id, 99, topic, state FROM stored_events WHERE rowid = 1",),
        31,
        "inserted",
    ),
    "cut": (CUT_BOTH, 26, "cut off"),
    "wrong type": (("UPDATE stored_events SET state = 7 WHERE rowid = 11",), 11, "altered"),
}


@pytest.mark.parametrize("with_anchor", [True, False])
@pytest.mark.parametrize(("statements", "position", "word"), NAIVE.values(), ids=NAIVE)
def test_a_naive_forgery_is_told_by_its_position_with_and_without_an_anchor(
    log: Path, run: Command, statements: tuple[str, ...], position: int, word: str, with_anchor: bool
) -> None:
    anchors = ["--anchor", anchor_of(log, 10), "--anchor", anchor_of(log, 30)] if with_anchor else []
    tamper(log, *statements)
    outcome = run("events", "verify", *anchors)
    assert outcome.code == 1
    first = outcome.out.splitlines()[0]
    assert first.startswith(f"NOT intact: at position {position} ")
    assert word in first
    assert first.endswith(f"{position - 1} events before it are")
    assert "anchors that hold: " in outcome.out or not with_anchor


INVISIBLE: dict[str, Callable[[Path], None]] = {
    "an informed cut": lambda log: tamper(log, *CUT_BOTH, COUNT),
    "an old backup": put_back,
    "a rewritten history": rewrite,
}


@pytest.mark.parametrize("forgery", INVISIBLE.values(), ids=INVISIBLE)
def test_what_takes_an_anchor_is_said_not_to_be_shown_without_one(
    log: Path, run: Command, forgery: Callable[[Path], None]
) -> None:
    forgery(log)
    outcome = run("events", "verify")
    assert outcome.code == 0
    assert {CUT, OLD, REWRITTEN} <= set(said(outcome))


# --- with anchors


def test_an_anchor_that_holds_says_up_to_where(log: Path, run: Command) -> None:
    outcome = run("events", "verify", "--anchor", anchor_of(log, 10), "--anchor", anchor_of(log, 20))
    assert outcome.code == 0
    assert outcome.out.splitlines()[1:] == ["anchors that hold: 2, the newest at position 20"]
    assert said(outcome) == [
        "this can't show:",
        f"after position 20, the newest anchor that holds: {CUT}; {OLD}; {REWRITTEN}",
    ]


def test_an_anchor_of_the_head_leaves_nothing_open(log: Path, run: Command) -> None:
    outcome = run("events", "verify", "--anchor", anchor_of(log, 30))
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("forgery", "position", "meaning"),
    [
        (
            INVISIBLE["an informed cut"],
            26,
            "beyond: the log ends at position 25: its end was cut off, or an old backup is",
        ),
        (
            INVISIBLE["an old backup"],
            21,
            "beyond: the log ends at position 20: its end was cut off, or an old backup is",
        ),
        (
            INVISIBLE["a rewritten history"],
            11,
            "differs: history before it was rewritten, or an older copy of the file",
        ),
    ],
    ids=INVISIBLE,
)
def test_with_anchors_it_is_named_with_the_anchor_s_position_and_what_that_means(
    log: Path, run: Command, forgery: Callable[[Path], None], position: int, meaning: str
) -> None:
    anchors = ["--anchor", anchor_of(log, 10), "--anchor", anchor_of(log, 30)]
    forgery(log)
    outcome = run("events", "verify", *anchors)
    assert outcome.code == 1
    first, second, third = outcome.out.splitlines()
    assert first.startswith(f"NOT intact: at position {position} ")
    assert second.startswith(f"anchor at position 30 {meaning}")
    assert third == "anchors that hold: 1, the newest at position 10"


def test_a_file_of_anchors_is_compared_line_by_line(log: Path, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "kept elsewhere"
    file.write_text(
        f"# from the health replies\n{anchor_of(log, 10)}\nSMITH^JANE\n{anchor_of(log, 20)} 2026-11-23T09:00Z\n"
    )
    outcome = run("events", "verify", "--anchors", str(file))
    assert outcome.code == 0
    assert said(outcome)[:2] == [f"anchors file: {file}", "line 3 of it is no anchor"]
    assert "SMITH" not in outcome.err
    put_back(log)
    assert run("events", "verify", "--anchors", str(file)).code == 0  # both are in the backup
    file.write_text(f"{anchor_of(log, 10)}\n20:{'0' * 64}\n")
    outcome = run("events", "verify", "--anchors", str(file))
    assert (outcome.code, "anchor at position 20 differs" in outcome.out) == (1, True)


def test_the_file_beside_the_database_is_used_by_itself_and_said_to_be_within_reach(log: Path, run: Command) -> None:
    beside = Path(f"{log}.anchors")
    beside.write_text(f"{anchor_of(log, 30)}\n")
    outcome = run("events", "verify")
    assert outcome.out.splitlines()[1] == "anchors that hold: 1, the newest at position 30"
    assert said(outcome)[0] == f"anchors file: {beside.relative_to(Path.cwd())}"
    assert "could write the anchors file beside the database as well" in said(outcome)[2]
    put_back(log)
    assert run("events", "verify").code == 1


def test_after_a_restore_that_the_file_tells_of_its_later_anchors_are_told_and_not_compared(
    log: Path, run: Command
) -> None:
    beside = Path(f"{log}.anchors")
    beside.write_text(f"{anchor_of(log, 20)}\n{anchor_of(log, 30)}\n")
    late = anchor_of(log, 30)
    put_back(log)
    assert run("events", "verify").code == 1
    note_restore(beside, 20, "2026-11-23T09:00:00+00:00")
    outcome = run("events", "verify")
    assert outcome.code == 0
    assert "anchors in it of a log that a restore from a backup replaced, not compared: 1" in said(outcome)
    assert run("events", "verify", "--anchor", late).code == 1


def test_an_anchor_from_elsewhere_is_compared_beside_that_file(log: Path, run: Command) -> None:
    """A forger who also wrote the file is found by the one that he could not reach."""
    elsewhere = anchor_of(log, 20)
    rewrite(log)
    Path(f"{log}.anchors").write_text(f"{anchor_of(log, 30)}\n")
    assert run("events", "verify").code == 0
    outcome = run("events", "verify", "--anchor", elsewhere)
    assert outcome.code == 1
    assert "anchor at position 20 differs: a later anchor holds, so one of the two is false" in outcome.out


def test_another_place_of_the_file_is_a_setting(
    log: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounted").write_text(f"{anchor_of(log, 30)}\n")
    monkeypatch.setenv("GATEWAY_ANCHORS_FILE", str(tmp_path / "mounted"))
    assert f"anchors file: {tmp_path / 'mounted'}" in said(run("events", "verify"))


@pytest.mark.parametrize("anchor", ["30", "x:y", "30:" + "0" * 63])
def test_an_anchor_that_is_none_is_misuse(log: Path, run: Command, anchor: str) -> None:
    outcome = run("events", "verify", "--anchor", anchor)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("gateway: validation: anchor: must be POSITION:HASH")


def test_a_file_without_any_anchor_is_misuse_and_one_that_is_not_there_is_said(
    log: Path, run: Command, tmp_path: Path
) -> None:
    outcome = run("events", "verify", "--anchors", str(log))
    assert (outcome.code, outcome.out) == (2, "")
    outcome = run("events", "verify", "--anchors", str(tmp_path / "gone"))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("gateway: anchors_unusable: ")


# --- how it looks


def test_verifying_leaves_the_evidence_as_it_is(log: Path, run: Command) -> None:
    """Opening the application would bring tables up to date with a log that was cut, or fail on what it can't read."""
    tamper(
        log, *CUT_BOTH, "UPDATE stored_events SET state = x'ff', topic = 'x' WHERE rowid = 11", "DELETE FROM timeline"
    )
    before = log.read_bytes()
    assert run("events", "verify").out.startswith("NOT intact: at position 11 ")
    assert log.read_bytes() == before


def test_beside_a_running_service_it_is_gentle_unless_told_otherwise(
    log: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    paces: list[bool] = []
    verify = chain.verify

    def noted(*arguments: object, gently: bool, **named: object) -> chain.Verification:
        paces.append(gently)
        return verify(*arguments, gently=gently, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(chain, "verify", noted)
    run("events", "verify")
    run("events", "verify", "--gently")
    owner = Ownership(log)
    outcome = run("events", "verify")
    run("events", "verify", "--fast")
    owner.release()
    assert paces == [False, True, True, False]
    assert said(outcome)[0].startswith("a service runs on this database: verifying gently")


def test_saves_go_on_beside_it(log: Path, run: Command) -> None:
    with opened(log) as gateway:
        stop = threading.Event()

        def save() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                schedule(gateway, f"NEW{number:06d}")

        saving = threading.Thread(target=save)
        saving.start()
        try:
            codes = [run("events", "verify", *pace).code for pace in (["--gently"], ["--fast"]) for _ in range(3)]
        finally:
            stop.set()
            saving.join()
        assert codes == [0] * 6
        assert gateway.verify_chain().events > 30


# --- the present head


def test_the_head_is_printed_as_a_line_of_an_anchors_file(log: Path, run: Command, tmp_path: Path) -> None:
    outcome = run("events", "anchor")
    anchor, committed_at = outcome.out.split()
    assert (outcome.code, anchor) == (0, anchor_of(log, 30))
    assert committed_at.endswith("+00:00")
    (tmp_path / "elsewhere").write_text(outcome.out)
    assert run("events", "verify", "--anchors", str(tmp_path / "elsewhere")).code == 0


def test_an_empty_log_has_none_and_is_intact(gateway: Gateway, run: Command) -> None:
    outcome = run("events", "anchor")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "gateway: not_found: there is no event yet, and so nothing to anchor\n"
    assert run("events", "verify").out == f"intact: 0 events, head 0:{'0' * 64}\n"


def test_a_backup_and_a_copy_in_any_journal_mode_are_verified_as_they_are(
    log: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copy in (backup_of(log), log.with_name("copy.db")):
        if copy.exists():
            assert copy.stat().st_size
        else:
            shutil.copy(log, copy)
        with closing(sqlite3.connect(copy)) as prompt:
            assert prompt.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        before = copy.read_bytes()
        monkeypatch.setenv("WORKLIST_DB_PATH", str(copy))
        assert run("events", "verify").code == 0
        assert copy.read_bytes() == before
