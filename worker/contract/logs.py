"""What happens, on standard error: one JSON object a line, or words for a person at a terminal.

From our own calls and from libraries alike, of which only warnings are told.

`request_id` and `job_id` come from context variables (`bound`), so no call passes them on. Nothing
of a medium, a client's file name or a secret is ever logged.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, cast

import structlog

_LIBRARIES: Final = (
    *("rq", "rq.worker", "httpx2", "httpcore2", "asyncio"),
    *("matplotlib", "numba", "absl"),
)
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def configure_logging(process: str, level: str) -> None:
    """Set up the whole process; called once by an entry point.

    Args:
        process: Name of the process, in every line.
        level: DEBUG, INFO, WARNING or ERROR.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, event: {**event, "process": process},
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(is_terminal=sys.stderr.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # What they tell at INFO our own lines say as well, with a job or a request.
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.error").addFilter(_says_where_it_listens)
    logging.captureWarnings(True)
    # Deprecations are for those who develop this, and their tests fail on them.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype\(\) is deprecated")


def _says_where_it_listens(record: logging.LogRecord) -> bool:
    """Of uvicorn's own words what matters: its address, and warnings."""
    return record.levelno >= logging.WARNING or "running on" in record.getMessage()


def _renderers(*, is_terminal: bool) -> list[structlog.typing.Processor]:
    """How an event becomes a line."""
    if is_terminal:
        return [_without_noise, structlog.dev.ConsoleRenderer(pad_event_to=24)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _without_noise(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """What a person who looks at the lines as they come has no use for."""
    event["timestamp"] = str(event.get("timestamp", ""))[11:19]
    event["logger"] = event.pop("process", event.get("logger"))
    return event


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for a module."""
    return structlog.stdlib.get_logger(name)


def bound(**values: str) -> AbstractContextManager[None]:
    """Add fields to every line that is logged inside the context."""
    return cast(AbstractContextManager[None], structlog.contextvars.bound_contextvars(**values))
