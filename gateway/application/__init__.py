"""The gateway's use cases, one method each: load, decide and save inside one retry (design §3.4, §3.16)."""

from gateway.application.store import (
    PROJECTIONS,
    Gateway,
    StepOutcome,
    StudyOutcome,
    is_missing,
    make_folder,
    opened,
)

__all__ = ["PROJECTIONS", "Gateway", "StepOutcome", "StudyOutcome", "is_missing", "make_folder", "opened"]
