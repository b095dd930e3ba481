"""The window: pages for people at the ops port. Every page is data first (`.json`), then a template of that data."""
