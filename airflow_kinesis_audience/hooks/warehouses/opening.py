"""Opens the connection to a warehouse; an error says which connection it is, where that leads, and why it failed.

What a server says before the first statement holds no value of a row, so its words are shown. A login that it does
not accept is refused, since a retry does not help; all else may be of this moment.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_OF_THE_LOGIN = re.compile(
    r"authentication|password|access denied|not permitted|pg_hba\.conf|unauthorized|forbidden|invalid .*token"
    r"|\b(role|user|database|schema|catalog)\b.* (does not exist|not found)|unknown database",
    re.IGNORECASE,
)
"""What servers say of a login, or of a database that it names, in their own language."""

_OF_THE_LOGIN_BY_NUMBER = {1044, 1045, 1049, 1130, 1251, 1698, 390100, 390144}
"""MySQL's and Snowflake's numbers of the same."""

_ELSEWHERE = (ImportError, RuntimeError)
"""A driver that is not installed; each engine's class says what to install."""

ASKING_AIRFLOW = threading.RLock()
"""Held while a thread asks Airflow for a connection, or gives it a value: in Airflow 3.1 two must not."""

_SECRET = re.compile(r"pass|secret|token|key|credential", re.IGNORECASE)


def opener(connect: Callable[[], Any], connection: Any) -> Callable[[], Any]:
    """Give what opens a connection, as the given one does, with errors that say where and why.

    :param connection: Airflow's.
    """

    def open_connection() -> Any:
        try:
            with ASKING_AIRFLOW:
                return connect()
        except (AudienceError, *_ELSEWHERE):
            raise
        except Exception as error:
            # Not chained: the driver's own text may quote the password.
            raise _failure(error, connection) from None

    return open_connection


def _failure(error: Exception, connection: Any) -> AudienceError:
    said = _words(error, connection)
    where = f" ({connection.host}{f':{connection.port}' if connection.port else ''})" if connection.host else ""
    failed = f"warehouse connection {connection.conn_id!r}{where} cannot be opened: {said}"
    number = next((a for a in (*error.args[:1], getattr(error, "errno", None)) if isinstance(a, int)), None)
    if number in _OF_THE_LOGIN_BY_NUMBER or _OF_THE_LOGIN.search(said):
        return WarehouseRefused(
            f"{failed}. Correct the connection's login, password, or database (its field schema)"
        )
    return WarehouseUnavailable(
        f"{failed}. If the next attempt fails, too, check its host and port, and the network"
    )


def _words(error: Exception, connection: Any) -> str:
    """Return the server's words, on one line and without secrets."""
    *_, last = error.args or ("",)
    text = str(last.get("M", "") if isinstance(last, dict) else last).strip()
    said = " ".join((text.splitlines() or [""])[0].split()).rstrip(".")
    secrets = [connection.password, *(v for n, v in connection.extra_dejson.items() if _SECRET.search(n))]
    for secret in sorted((s for s in secrets if isinstance(s, str) and s), key=len, reverse=True):
        said = said.replace(secret, "***")
    return f"{said} ({type(error).__name__})" if said else type(error).__name__
