"""Orthanc beside us: its feed of changes is followed, images find their appointment, and studies are sent on."""
