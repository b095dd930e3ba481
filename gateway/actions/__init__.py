"""The web app's words ↔ ours: the wire contract of the actions hybrid connection."""
