"""One JSON object a line on standard error, from our own calls and from libraries alike.

`request_id` and `job_id` come from context variables (`bound`), so no call passes them on. Nothing
of a medium, a client's file name or a secret is ever logged.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from typing import Literal, cast

import structlog

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
        structlog.processors.format_exc_info,
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
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # RQ tells of every delivery at INFO; our own lines say the same with a job id.
    logging.getLogger("rq").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("rq.worker").setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for a module."""
    return structlog.stdlib.get_logger(name)


def bound(**values: str) -> AbstractContextManager[None]:
    """Add fields to every line that is logged inside the context."""
    return cast(AbstractContextManager[None], structlog.contextvars.bound_contextvars(**values))
