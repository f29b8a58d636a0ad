"""Structured logs on stderr: constant messages with facts as fields, for people or as JSON lines."""

import logging
import sys
from typing import Any, cast

import structlog

Logger = structlog.typing.FilteringBoundLogger

LEVELS = ("debug", "info", "warning", "error")
_HIDDEN = ("token", "password", "secret", "authorization", "private", "apikey")


def _redact(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Hide fields whose names say that they are secret; nobody should log them, and if somebody does, it does no harm."""
    for field in event:
        if any(word in field.lower() for word in _HIDDEN):
            event[field] = "(hidden)"
    return event


def configure(*, level: str = "info", json: bool = False) -> None:
    """Set up the logs of this process; once, in `main`."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Standard error as it is when a line is written: it may be exchanged for a file, or by a test.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str, **fields: Any) -> Logger:  # noqa: ANN401 - any value can be a field
    """A logger whose lines carry `component=name` and `fields`."""
    return cast("Logger", structlog.get_logger(component=name, **fields))
