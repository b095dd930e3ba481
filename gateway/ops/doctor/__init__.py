"""Checks that prove by traffic, not by state, that the gateway does what it is for."""
