"""A modality begins and falls silent: somebody is told, and nothing changes by itself."""

from __future__ import annotations

import pytest

from tests.end_to_end.harness import GatewayProcess
from tests.end_to_end.unit import Unit

pytestmark = pytest.mark.slow


def test_a_step_that_is_never_finished_is_told_in_the_log_and_in_health_and_changes_nothing(
    lonely: GatewayProcess,
) -> None:
    lonely.settings["gateway_unfinished_step_hours"] = "0.000001"
    lonely.start()
    lonely.command(
        "worklist", "add", "ACC1", "--patient-id", "9990000018", "--patient-name", "SMITH^JANE",
        "--patient-birth-date", "19650315", "--scheduled-time", "1000",
    )  # fmt: skip
    uid = Unit(lonely.dicom_port).start("ACC1")
    lonely.restart()
    line = lonely.until_said("step_unfinished", sop_instance_uid=uid)
    assert line["accession_numbers"] == ["ACC1"]
    assert line["level"] == "warning"
    health = lonely.health()
    assert health is not None
    code, report = health
    assert (code, report["checks"]["steps"]["unfinished"]) == (200, 1)
    assert any("gateway steps unfinished" in warning for warning in report["warnings"])
    assert lonely.status("ACC1") == "IN PROGRESS"
    lonely.command("steps", "complete", "ACC1", "--reason", "the unit was switched off")
    lonely.until_health(lambda report: report["checks"]["steps"]["unfinished"] == 0, "the step is settled")
