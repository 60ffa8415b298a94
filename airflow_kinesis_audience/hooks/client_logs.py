"""Keeps what is put and what was read out of the logs of clients and drivers, which print all of it at DEBUG."""

from __future__ import annotations

import logging


def keep_requests_out_of_logs(*roots: str) -> None:
    """Keep loggers of these names, and all below them, above DEBUG."""
    below = [name for name in logging.root.manager.loggerDict if name.startswith(tuple(f"{r}." for r in roots))]
    for logger in map(logging.getLogger, (*roots, *below)):
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
