"""pynetdicom and pydicom as they may be used here: whoever imports either imports this first."""

from __future__ import annotations

import logging

from pydicom import config
from pynetdicom import _config

# pynetdicom logs whole identifiers, and handler errors with their text: patients. What matters we log ourselves.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
_config.VALIDATORS["UI"] = lambda _: (True, "")  # a UID that is none is refused by itself, not the whole association
config.settings.reading_validation_mode = config.IGNORE  # pydicom's warnings quote the value
config.settings.writing_validation_mode = config.IGNORE
