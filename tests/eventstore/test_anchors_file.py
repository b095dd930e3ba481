"""The anchors file: one line `POSITION:HASH COMMITTED_AT` each, private, durable, only ever added to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway.errors import AnchorsUnusable, InvalidValue
from gateway.eventstore import anchors
from gateway.eventstore.chain import Anchor

AT = "2026-11-23T09:00:00.000000+00:00"
ONE, TWO = Anchor(10, bytes(range(32)), AT), Anchor(20, b"\x02" * 32, AT)
ONE_LINE = "10:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 2026-11-23T09:00:00.000000+00:00\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db.anchors"


def test_a_line_is_position_hash_and_the_time_of_the_commit(file: Path) -> None:
    assert anchors.keep(file, ONE)
    assert file.read_text() == ONE_LINE
    assert anchors.keep(file, TWO)
    assert file.read_text().startswith(ONE_LINE)
    assert anchors.read(file) == anchors.Kept((ONE, TWO))


def test_nobody_else_on_this_machine_reads_it(file: Path) -> None:
    before = os.umask(0)
    try:
        anchors.keep(file, ONE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_same_anchor_is_written_once(file: Path) -> None:
    anchors.keep(file, ONE)
    anchors.keep(file, TWO)
    assert not anchors.keep(file, ONE)
    assert not anchors.keep(file, TWO)
    assert anchors.read(file).anchors == (ONE, TWO)


def test_another_link_at_the_same_position_is_written_it_is_what_an_auditor_looks_for(file: Path) -> None:
    anchors.keep(file, ONE)
    other = Anchor(10, bytes(32), AT)
    assert anchors.keep(file, other)
    assert anchors.read(file).anchors == (ONE, other)


def test_a_line_is_on_the_disk_before_it_counts_as_kept_and_so_is_the_name_of_a_new_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        assert file.read_text().endswith("\n")
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    anchors.keep(file, ONE)
    assert synced == [str(file), str(file.parent)]
    anchors.keep(file, TWO)
    assert synced[2:] == [str(file)]


def test_a_line_that_the_disk_takes_in_pieces_is_written_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    anchors.keep(file, ONE)
    assert file.read_text() == ONE_LINE


@pytest.mark.parametrize("kept", range(1, len(ONE_LINE)))
def test_a_line_that_a_power_cut_left_incomplete_takes_no_other_with_it(file: Path, kept: int) -> None:
    file.write_text(ONE_LINE[:kept])
    anchors.keep(file, TWO)
    read = anchors.read(file)
    assert read.anchors[-1] == TWO
    assert file.read_text().startswith(ONE_LINE[:kept] + "\n")
    assert len(read.anchors) + len(read.unreadable) == 2


def test_lines_that_are_no_anchors_are_named_and_the_others_are_read(file: Path) -> None:
    file.write_bytes(
        f"# from the log of 23 Nov\n\nSMITH^JANE\n{ONE_LINE}\xff\xfe\n  {anchors.line(TWO)}  \n".encode("latin-1")
    )
    assert anchors.read(file) == anchors.Kept((ONE, TWO), (3, 5))


def test_after_a_restore_later_anchors_are_those_of_the_log_that_was_replaced(file: Path) -> None:
    """And the same position may come again, with another link."""
    anchors.keep(file, ONE)
    anchors.keep(file, TWO)
    anchors.note_restore(file, 15, AT)
    assert anchors.read(file) == anchors.Kept((ONE,), (), (TWO,))
    other = Anchor(20, b"\x03" * 32, AT)
    assert anchors.keep(file, other)
    assert anchors.read(file) == anchors.Kept((ONE, other), (), (TWO,))
    assert file.read_text().splitlines()[2] == f"# restored to 15 {AT}"


def test_a_restore_makes_no_file_where_there_is_none(file: Path) -> None:
    anchors.note_restore(file, 15, AT)
    assert not file.exists()


def test_a_line_without_its_time_is_an_anchor(file: Path) -> None:
    file.write_text(f"{ONE}\n")
    assert anchors.read(file).anchors == (Anchor(10, ONE.link),)


def test_a_file_that_is_not_there_is_said(file: Path) -> None:
    with pytest.raises(AnchorsUnusable, match="No such file") as caught:
        anchors.read(file)
    assert str(file) in caught.value.message


@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self"])
def test_what_is_no_file_is_refused_and_not_read_for_ever(path: str) -> None:
    for work in (lambda: anchors.read(Path(path)), lambda: anchors.keep(Path(path), ONE)):
        with pytest.raises(AnchorsUnusable):
            work()


def test_a_folder_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AnchorsUnusable) as caught:
        anchors.keep(tmp_path / "gone" / "anchors", ONE)
    assert "GATEWAY_ANCHORS_FILE" in caught.value.remedy


GOOD = ONE_LINE.split(maxsplit=1)[0]


@pytest.mark.parametrize("text", [GOOD, f" {GOOD} ", ONE_LINE, GOOD.upper()])
def test_an_anchor_is_read_as_it_is_printed(text: str) -> None:
    parsed = anchors.parse(text)
    assert (parsed.position, parsed.link) == (10, ONE.link)


@pytest.mark.parametrize(
    "text",
    ["", "10", GOOD[:-1], GOOD + "0", "0" + GOOD, "-" + GOOD, GOOD.replace(":", " "), GOOD.replace("0a", "zz"),
     "0:" + "0" * 64, "9" * 19 + ":" + "0" * 64, "١:" + "0" * 64, f"{ONE_LINE.strip()} more"],
)  # fmt: skip
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="POSITION:HASH"):
        anchors.parse(text)
