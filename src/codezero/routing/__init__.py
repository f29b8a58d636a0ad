"""Decisions about where a request goes; pure functions."""
