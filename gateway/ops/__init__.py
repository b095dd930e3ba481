"""The people's window: health, later metrics and pages."""
