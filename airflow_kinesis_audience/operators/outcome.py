"""The one place where a domain error becomes what Airflow understands: retry, fail for good, or skip.

Errors are not chained: what caused them can hold values of a row, which no log may show.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_kinesis_audience.exceptions import AudienceError, RunSuperseded

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def airflow_outcome() -> Iterator[None]:
    """Let errors that a retry can help with pass; fail for good, or skip, on the others."""
    try:
        yield
    except RunSuperseded as error:
        raise AirflowSkipException(str(error)) from None
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
    except AudienceError as error:
        if error.retry_helps:
            raise
        raise AirflowFailException(str(error)) from None
