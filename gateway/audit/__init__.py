"""For the auditor: who knew what, when, and that nobody changed it. Reads the record; no part of its way in."""
