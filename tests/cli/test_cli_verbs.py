"""Each verb: its help, its exit code, its data on stdout and its talk on stderr."""

from __future__ import annotations

import getpass
import io
import json
import re
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_support import Command

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.cli import app
from gateway.cli.output import masked_id, masked_name

PERSON = ("--patient-id", "BS123456", "--patient-name", "SMITH^JOHN", "--patient-birth-date", "19800101")
ADD = ("worklist", "add", "ACC123", *PERSON, "--scheduled-time", "143000")


def verbs(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every verb by its words, groups that do something of their own among them."""
    found = {path: group} if not hasattr(group, "commands") or path == ("demo",) else {}
    for name, command in getattr(group, "commands", {}).items():
        found |= verbs(command, (*path, name))
    return found


VERBS = verbs(typer.main.get_command(app))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_verb_has_help_with_an_example_that_can_be_typed(
    run: Command, words: tuple[str, ...], option: str
) -> None:
    outcome = run(*words, option)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"gateway {' '.join(words)}" in re.search(r"Example: (.*)", outcome.out)[1]  # type: ignore[index]


def test_every_option_says_what_it_is_for() -> None:
    silent = [
        (" ".join(words), parameter.name)
        for words, command in VERBS.items()
        for parameter in command.params
        if not getattr(parameter, "help", None) and parameter.name != "help"
    ]
    assert silent == []


@pytest.mark.parametrize("words", [(), ("worklist",), ("modality",)], ids=["gateway", "worklist", "modality"])
def test_a_group_without_a_verb_shows_its_help_and_is_misuse(run: Command, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert "Usage:" in outcome.out + outcome.err


def test_the_exit_codes_are_in_the_help(run: Command) -> None:
    assert "0 well, 1 unwell, 2 misused, 3 unreachable" in run("--help").out


MISUSE: dict[str, tuple[str, ...]] = {
    "no such verb": ("sing",),
    "no such option": ("worklist", "list", "--sing"),
    "an argument is missing": ("timeline",),
    "an option is missing": ("worklist", "set-status", "ACC001", "COMPLETED"),
    "a number that is none": ("modality", "echo", "-p", "x"),
    "a date that is none": ("worklist", "list", "--date", "20260231"),
    "a status that is none": ("worklist", "list", "--status", "done"),
    "a status that is none, to be set": ("worklist", "set-status", "ACC001", "done", "--reason", "x"),
    "a reason that says nothing": ("worklist", "set-status", "ACC001", "COMPLETED", "--reason", " "),
    "a state that is none": ("outbox", "list", "--state", "lost"),
    "an accession number that is too long": ("worklist", "add", "A" * 17, *PERSON, "--scheduled-time", "1000"),
    "a time that is none": ("worklist", "add", "ACC1", *PERSON, "--scheduled-time", "25:00"),
    "no hybrid connection": ("relay", "emulate"),
    "two questions at once": ("timeline", "ACC001", "--rejected"),
    "a moment that goes with nothing": ("timeline", "ACC001", "--since", "2026-11-23"),
    "a moment that is none": ("timeline", "--rejected", "--since", "soon"),
    "nobody is asked about": ("audit", "list"),
    "a form that is none": ("audit", "export", "--format", "csv"),
}


@pytest.mark.parametrize("words", MISUSE.values(), ids=MISUSE.keys())
def test_misuse_exits_2_and_says_so_on_stderr(gateway: Gateway, run: Command, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err
    assert "Traceback" not in outcome.err


def test_an_invalid_setting_is_misuse_too(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_DICOM_PORT", "SMITH")
    for words in (("config", "show"), ("worklist", "list"), ("serve",), ("demo", "--once")):
        outcome = run(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("gateway: settings_invalid: GATEWAY_DICOM_PORT: ")
        assert "SMITH" not in outcome.err


# --- a look into a database that is not there

LOOKS = [
    ("worklist", "list"),
    ("worklist", "statistics"),
    ("worklist", "queries"),
    ("worklist", "explain", "--from", "MAMMO1"),
    ("timeline", "ACC001"),
    ("audit", "list", "--accession", "ACC001"),
    ("audit", "export"),
    ("outbox", "list"),
    ("events", "verify"),
    ("projections", "verify"),
    ("projections", "rebuild"),
    ("worklist", "set-status", "ACC001", "COMPLETED", "--reason", "x"),
]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_a_look_into_a_database_that_is_not_there_says_what_to_do_and_creates_none(
    run: Command, tmp_path: Path, words: tuple[str, ...]
) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (1, "")
    assert re.fullmatch(r"gateway: store_unusable: there is no database at data/gateway.db → .*\n", outcome.err)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_of_ours_is_refused_and_left_as_it_is(run: Command, database: Path) -> None:
    database.parent.mkdir()
    database.write_text("SMITH^JANE\n" * 400)
    outcome = run("worklist", "list")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("gateway: store_unusable: ")
    assert "SMITH" not in outcome.err
    assert database.read_text() == "SMITH^JANE\n" * 400


# --- the worklist


def test_names_and_ids_are_masked_unless_revealed(story: Gateway, run: Command, port: str) -> None:
    for words in (("worklist", "list"), ("modality", "find", "-p", port)):
        masked, revealed = run(*words), run(*words, "--reveal")
        assert "S•••• J•••" in masked.out
        assert "•••••••018" in masked.out
        assert "SMITH" not in masked.out + masked.err
        assert "9990000018" not in masked.out + masked.err
        assert "SMITH^JANE" in revealed.out
        assert "9990000018" in revealed.out


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("SMITH^JANE", "S•••• J•••"),
        ("VAN DER BERG^ZOË^^MS", "V•• D•• B••• Z•• M•"),
        ("Y=王^小东", "Y 王 小•"),
        ("", ""),
    ],
)
def test_of_each_word_of_a_name_the_first_letter_is_left(name: str, masked: str) -> None:
    assert masked_name(name) == masked


@pytest.mark.parametrize(
    ("number", "masked"), [("9990000018", "•••••••018"), ("1234", "•234"), ("123", "•••"), ("", "")]
)
def test_of_an_id_the_last_three_characters_are_left(number: str, masked: str) -> None:
    assert masked_id(number) == masked


def accessions(outcome: Any) -> list[str]:
    return [line.split()[0] for line in outcome.out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ((), ["ACC001", "ACC002", "ACC003"]),
        (("--status", "scheduled"), ["ACC003"]),
        (("-s", "COMPLETED"), ["ACC001", "ACC002"]),
        (("--date", "20261123"), ["ACC001", "ACC002", "ACC003"]),
        (("-d", "2026-11-23"), ["ACC001", "ACC002", "ACC003"]),
        (("-d", "20261124"), []),
        (("-m", "mg"), ["ACC001", "ACC002", "ACC003"]),
        (("-m", "US"), []),
        (("--patient-id", "9990000018"), ["ACC001", "ACC002", "ACC003"]),
        (("--accession", "ACC002"), ["ACC002"]),
        (("--test",), ["TEST001"]),
    ],
    ids=lambda value: " ".join(value) or "all" if isinstance(value, tuple) else None,
)
def test_the_worklist_can_be_asked_by_date_modality_status_patient_and_number(
    story: Gateway, run: Command, options: tuple[str, ...], listed: list[str]
) -> None:
    outcome = run("worklist", "list", *options)
    assert (outcome.code, accessions(outcome)) == (0, listed)
    assert outcome.err == f"{len(listed)} item{'' if len(listed) == 1 else 's'}\n"


def test_statistics_count_test_items_apart(story: Gateway, run: Command) -> None:
    lines = run("worklist", "statistics").out.splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["COMPLETED", "2", "–"],
        ["SCHEDULED", "1", "–"],
        ["SCHEDULED", "1", "test"],
    ]


def test_adding_an_item_is_an_event(gateway: Gateway, run: Command) -> None:
    outcome = run(*ADD, "--scheduled-date", "20261123")
    assert (outcome.code, outcome.out) == (0, "ACC123 created\n")
    [row] = gateway.timeline("ACC123")
    assert (row.kind, row.source) == ("WorklistItem.Scheduled", "operator")
    assert gateway.verify_projections() == []
    assert gateway.verify_chain().intact


def test_adding_creates_the_database_where_there_is_none(run: Command, database: Path) -> None:
    assert run(*ADD).code == 0
    assert database.exists()
    assert accessions(run("worklist", "list")) == ["ACC123"]


def test_adding_the_same_again_exists_and_another_under_its_number_is_a_conflict(
    gateway: Gateway, run: Command
) -> None:
    run(*ADD)
    assert run(*ADD).out == "ACC123 exists\n"
    outcome = run(*ADD, "--modality", "US")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("gateway: accession_conflict: ")


def test_setting_a_status_is_an_event_with_its_reason_and_the_web_app_is_owed_it(
    gateway: Gateway, run: Command
) -> None:
    schedule(gateway)
    outcome = run("worklist", "set-status", "ACC001", "completed", "--reason", "unit has no MPPS")
    assert (outcome.code, outcome.out) == (0, "ACC001 SCHEDULED → COMPLETED\n")
    kinds = {row.kind: row for row in gateway.timeline("ACC001")}
    assert kinds["WorklistItem.StatusCorrected"].details["reason"] == "unit has no MPPS"
    assert kinds["WorklistItem.StatusCorrected"].source == "operator"
    assert [row.status for row in gateway.find_updates()] == ["COMPLETED"]
    assert gateway.verify_projections() == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("worklist", "set-status", "ACC999", "COMPLETED", "--reason", "x"), "not_found"),
        (("worklist", "set-status", "ACC001", "SCHEDULED", "--reason", "x"), "illegal_transition"),
    ],
)
def test_a_status_that_can_not_be_set_exits_1_and_says_why(
    story: Gateway, run: Command, words: tuple[str, ...], code: str
) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"gateway: {code}: ")


# --- timeline, outbox, verification


def test_the_timeline_tells_hop_by_hop_and_names_nobody(story: Gateway, run: Command) -> None:
    outcome = run("timeline", "ACC001")
    table, _, step = outcome.out.partition("\n\n")
    assert step.splitlines()[2].startswith("data set")  # the story's data sets are none: it says so
    lines = [re.split(r"  +", line) for line in table.splitlines()[1:-1]]
    assert [line[1] if len(line[1]) > 1 and line[1][0] not in "+−" else line[2] for line in lines] == [
        "received",
        "accepted",
        "listed",
        "started",
        "item in progress",
        "queued",
        "completed",
        "item completed",
        "queued",
        "acknowledged",
        "acknowledged",
    ]
    assert "SMITH" not in outcome.out
    assert "9990000018" not in outcome.out


def test_a_number_that_nobody_ever_named_exits_1(story: Gateway, run: Command) -> None:
    outcome = run("timeline", "ACC999")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", "nothing is known of ACC999\n")


def test_what_somebody_wrote_can_not_steer_the_terminal(gateway: Gateway, run: Command) -> None:
    schedule(gateway)
    gateway.cancel("ACC001", "\x1b[2Jdid not\nattend\x07")
    outcome = run("timeline", "ACC001")
    lines = outcome.out.removesuffix("\n").split("\n")
    assert (len(lines), [line for line in lines if not line.isprintable()]) == (6, [])


def test_the_outbox_shows_what_is_unsettled_with_its_tries(story: Gateway, run: Command) -> None:
    outcome = run("outbox", "list")
    lines = outcome.out.splitlines()[1:]
    assert [re.split(r"  +", line)[:6] for line in lines] == [
        ["ACC002", "1", "IN PROGRESS", "parked", "0", "unknown_status"],
        ["ACC002", "2", "COMPLETED", "waiting", "1", "ack: no answer came"],
    ]
    assert outcome.err == "2 status events\n"


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--state", "parked"), 1),
        (("--state", "waiting"), 1),
        (("--state", "acknowledged"), 2),
        (("--state", "all"), 4),
        (("--accession", "ACC001"), 0),
        (("--accession", "ACC001", "--state", "all"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_outbox_can_be_asked_by_state_and_number(
    story: Gateway, run: Command, options: tuple[str, ...], count: int
) -> None:
    assert len(accessions(run("outbox", "list", *options))) == count


def parked_id(gateway: Gateway) -> str:
    [row] = gateway.find_updates(state="parked")
    return row.event_id


def test_a_parked_status_event_is_put_back_into_the_queue_with_a_reason(story: Gateway, run: Command) -> None:
    event_id = parked_id(story)
    outcome = run("outbox", "retry", event_id, "--reason", "it exists now")
    assert (outcome.code, outcome.out) == (0, f"{event_id} waiting\n")
    assert re.search(
        rf"  requeued +{getpass.getuser()} +reason=it exists now\n", run("timeline", "ACC002", "--reveal").out
    )


def test_a_parked_status_event_that_a_later_one_has_overtaken_is_retried_only_by_force(
    story: Gateway, run: Command
) -> None:
    event_id = parked_id(story)
    [waiting] = story.find_updates(state="waiting")
    story.acknowledge_update(waiting.event_id, answer="updated", attempts=1)
    refused = run("outbox", "retry", event_id, "--reason", "again")
    assert refused.code == 1
    assert "--force" in refused.err
    assert run("outbox", "retry", event_id, "--reason", "again", "--force").code == 0


def test_a_waiting_status_event_is_taken_out_of_the_queue_with_a_reason(story: Gateway, run: Command) -> None:
    [waiting] = story.find_updates(state="waiting")
    assert run("outbox", "park", waiting.event_id, "--reason", "told by telephone").code == 0
    assert len(story.find_updates(state="parked")) == 2
    assert run("outbox", "park", waiting.event_id, "--reason", "again").code == 1
    assert run("outbox", "retry", "no-such-id", "--reason", "x").code == 1


def test_a_damaged_event_is_told_in_one_line_by_what_reads_it(story: Gateway, run: Command, database: Path) -> None:
    with sqlite3.connect(database) as prompt:
        prompt.execute("UPDATE stored_events SET state = x'ff' WHERE rowid = 5")
    for words in (("projections", "verify"), ("projections", "rebuild")):
        outcome = run(*words)
        assert outcome.code == 1
        assert outcome.err.startswith("gateway: event_unreadable: ")
        assert "gateway events verify" in outcome.err


def test_an_intact_log_exits_0_and_tells_its_head(story: Gateway, run: Command) -> None:
    outcome = run("events", "verify")
    assert outcome.code == 0
    assert re.fullmatch(r"intact: 22 events, head 22:[0-9a-f]{64}\n", outcome.out)


TAMPERING = {
    "altered": ("UPDATE stored_events SET state = state || ' ' WHERE rowid = 5", 5),
    "removed": ("DELETE FROM stored_events WHERE rowid = 7", 7),
    "time moved": ("UPDATE event_chain SET committed_at = '2026-01-01T00:00:00+00:00' WHERE position = 3", 3),
}


@pytest.mark.parametrize(("statement", "position"), TAMPERING.values(), ids=TAMPERING.keys())
def test_a_tampered_log_exits_1_and_names_the_position(
    story: Gateway, run: Command, database: Path, statement: str, position: int
) -> None:
    with sqlite3.connect(database) as prompt:
        prompt.execute(statement)
    outcome = run("events", "verify")
    assert outcome.code == 1
    assert outcome.out.startswith(f"NOT intact: at position {position} ")


def test_projections_that_are_what_the_events_say_exit_0(story: Gateway, run: Command) -> None:
    outcome = run("projections", "verify")
    assert (outcome.code, outcome.out) == (0, "equal: what is served is what the events say\n")


def test_a_row_written_by_sql_exits_1_and_is_named_and_a_rebuild_removes_it(
    story: Gateway, run: Command, database: Path
) -> None:
    with sqlite3.connect(database) as prompt:
        prompt.execute(
            "INSERT INTO worklist_items (accession_number, patient_id, patient_name, patient_birth_date,"
            " scheduled_date, scheduled_time, modality)"
            " VALUES ('ACC555', 'BS1', 'SMITH^JOHN', '19800101', '20261123', '143000', 'MG')"
        )
    outcome = run("projections", "verify")
    assert outcome.code == 1
    assert outcome.out == "DIFFERENT: worklist_items ACC555: the row is served, but no event explains it\n"
    assert "gateway projections rebuild" in outcome.err
    assert run("projections", "rebuild").code == 0
    assert run("projections", "verify").code == 0
    assert "ACC555" not in run("worklist", "list").out


# --- settings


def test_settings_are_shown_with_secrets_masked_and_misspelt_ones_named(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_RELAY_SHARED_ACCESS_KEY", "c2VjcmV0")
    monkeypatch.setenv("GATEWAY_DICOMPORT", "104")
    for options in ((), ("--json",)):
        outcome = run("config", "show", *options)
        assert outcome.code == 0
        assert "c2VjcmV0" not in outcome.out + outcome.err
        assert "***" in outcome.out
        assert outcome.err == "GATEWAY_DICOMPORT is set, but there is no such setting\n"


# --- the modality


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.parametrize("words", [("echo",), ("find",), ("perform", "ACC003")], ids=lambda words: words[0])
def test_nobody_at_the_port_exits_3(run: Command, words: tuple[str, ...]) -> None:
    outcome = run("modality", *words, "-p", closed_port(), "-H", "127.0.0.1")
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err.startswith("gateway: unreachable: ")


@pytest.mark.parametrize("words", [("echo",), ("find",), ("perform", "ACC003")], ids=lambda words: words[0])
def test_another_ae_title_exits_1_and_says_what_to_check(run: Command, port: str, words: tuple[str, ...]) -> None:
    outcome = run("modality", *words, "-p", port, "-a", "WRONG")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("gateway: association_rejected: ")
    assert "AE title" in outcome.err


def test_an_echo_that_is_answered_exits_0(run: Command, port: str) -> None:
    outcome = run("modality", "echo", "-p", port, "-v")
    assert outcome.code == 0
    assert re.fullmatch(rf"ORTHANC_MWL at localhost:{port} answers \([0-9.]+ ms\)\n", outcome.out)
    assert "MAMMO1 asks ORTHANC_MWL" in outcome.err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["ACC003"]),
        (("-m", "MG", "-d", "20261123"), ["ACC003"]),
        (("-d", "20261101-20261130"), ["ACC003"]),
        (("-d", "20261124"), []),
        (("-m", "US"), []),
        (("--patient-name", "SMITH*"), ["ACC003"]),
        (("--status", "COMPLETED"), ["ACC001", "ACC002"]),
        (("-c", "OTHER"), ["ACC003"]),
        (("-c", "REHEARSAL"), ["TEST001", "ACC003"]),
    ],
    ids=lambda value: " ".join(value) or "all" if isinstance(value, tuple) else None,
)
def test_the_worklist_is_asked_as_a_unit_asks_it(
    run: Command, port: str, options: tuple[str, ...], found: list[str]
) -> None:
    outcome = run("modality", "find", "-p", port, *options)
    assert (outcome.code, accessions(outcome)) == (0, found)


@pytest.mark.parametrize(
    ("option", "status"), [((), "COMPLETED"), (("--discontinue",), "DISCONTINUED"), (("--wrong-entry",), "SCHEDULED")]
)
def test_an_examination_is_performed_and_told_in_two_steps(
    story: Gateway, run: Command, port: str, option: tuple[str, ...], status: str
) -> None:
    outcome = run("modality", "perform", "ACC003", "-p", port, *option)
    assert outcome.code == 0
    first, second = outcome.out.splitlines()
    assert first.startswith("ACC003 IN PROGRESS  MPPS ")
    assert second.split("  ")[0] in ("ACC003 COMPLETED", "ACC003 DISCONTINUED")
    [row] = json.loads(run("worklist", "list", "--accession", "ACC003", "--json").out)
    assert row["status"] == status


def test_an_item_that_is_not_on_the_list_is_not_performed(run: Command, port: str) -> None:
    outcome = run("modality", "perform", "ACC001", "-p", port)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("gateway: not_on_worklist: ")


class Terminal(io.StringIO):
    """Somebody who types this."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["n\n", "\n", ""], ids=["no", "enter", "nobody there"])
@pytest.mark.parametrize("host", ["192.0.2.7", "mwl.example", "0.0.0.0", "2001:db8::1"])
def test_performing_on_another_machine_asks_first_and_does_nothing_without_a_yes(
    run: Command, monkeypatch: pytest.MonkeyPatch, answer: str, host: str
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    outcome = run("modality", "perform", "ACC001", "-H", host, "-p", closed_port())
    assert (outcome.code, outcome.out.strip()) == (1, "")
    assert f"{host} is another machine" in outcome.err
    assert "unreachable" not in outcome.err


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2"])
def test_on_this_machine_it_does_not_ask(run: Command, host: str) -> None:
    outcome = run("modality", "perform", "ACC001", "-H", host, "-p", closed_port())
    assert outcome.code == 3
    assert "another machine" not in outcome.err


def test_with_yes_it_does_not_ask_either(run: Command) -> None:
    outcome = run("modality", "perform", "ACC001", "-H", "0.0.0.0", "-p", closed_port(), "--yes")
    assert outcome.code == 3
    assert "another machine" not in outcome.err


def test_a_yes_goes_on(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    outcome = run("modality", "perform", "ACC001", "-H", "0.0.0.0", "-p", closed_port())
    assert outcome.code == 3


# --- profiles of modalities


def test_config_modalities_shows_who_is_served_how(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "modalities.toml"
    file.write_text('[[modality]]\nae_title = "MAMMO1"\nstations = ["ROOM4", "ROOM5"]\nanswer_limit = 200\n')
    monkeypatch.setenv("GATEWAY_MODALITIES_FILE", str(file))
    outcome = run("config", "modalities")
    headings, unit, others = outcome.out.splitlines()
    assert (outcome.code, outcome.err) == (0, "")
    assert headings.startswith("AE TITLE    ADMITTED  ADDRESSES  STATIONS     ")
    assert re.match(r"MAMMO1      yes       –          ROOM4 ROOM5  no .* 200 ", unit)
    assert others.startswith("all others  no ")


def test_config_modalities_without_a_file_says_that_all_are_admitted(run: Command) -> None:
    outcome = run("config", "modalities")
    assert (outcome.code, outcome.err) == (
        0,
        "GATEWAY_MODALITIES_FILE is not set: all are admitted and served alike\n",
    )
    assert outcome.out.splitlines()[1].startswith("all others  yes")


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["people", "programs"])
def test_config_modalities_tells_all_problems_of_a_file_that_can_t_be_used(
    run: Command, tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "modalities.toml"
    file.write_text("[default]\nanswer_limit = 0\nreads_utf9 = true\n")
    outcome = run("config", "modalities", str(file), *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == [
        f"{file} can't be used:",
        "  [default] answer_limit: must be at least 1",
        "  [default] reads_utf9: there is no such key; is reads_utf8 meant?",
    ]
