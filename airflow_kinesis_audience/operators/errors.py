"""The one place where a domain error becomes what Airflow understands: retry, fail for good, or skip.

Errors are not chained: their causes can hold values of a row, which no log may show. XCom gets, for the page and
the notifier, the sentences of our own errors and no more than the name of any other.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_kinesis_audience.core.exceptions import (
    AudienceError,
    RunSuperseded,
    TaskEnded,
    describe_foreign_error,
)
from airflow_kinesis_audience.operators.killing import under_way
from airflow_kinesis_audience.operators.reporting.log_lines import describe_held
from airflow_kinesis_audience.operators.reporting.metrics import count_stop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context

_log = logging.getLogger(__name__)
WHERE_TO_LOOK = "Cause and remedy of each message: docs/troubleshooting.md of airflow-kinesis-audience"

STATE_KEY = "state"
"""XCom key of what stopped a task, there even where the task failed."""

MOST_SENTENCES = 20
"""How many sentences are in XCom at most."""


@contextlib.contextmanager
def _passing_over_old_objects() -> Iterator[None]:
    """Keep Python's collector of garbage from what there was before, which is looked at again afterwards.

    A task's process has loaded Airflow and a million objects with it, and each full collection looks at them all,
    in a fifth of a second. What is made meanwhile is collected as always.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def airflow_outcome(context: Context | None = None, known: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Let errors that a retry can help with pass; fail for good, or skip, on the others.

    :param context: of the task, whose XCom gets what stopped it.
    :param known: what is known by then of ``sync_id``, ``as_of`` and ``destination``.
    """
    try:
        with under_way(), _passing_over_old_objects():
            yield
    except RunSuperseded as error:
        if context is not None:
            with contextlib.suppress(Exception):
                emit_state(context, known or {}, "skipped", [str(error)])
        raise AirflowSkipException(str(error)) from None
    except ValueError as error:
        # A library's own, such as Arrow's, may quote a value.
        said = str(error) if type(error) is ValueError else describe_foreign_error(error)
        _forget(error)
        error.args = (said,)
        _write(context, [said])
        _emit_error(context, known, [said])
        raise AirflowFailException(said) from None
    except AudienceError as error:
        _forget(error)
        _write(context, error.sentences)
        _emit_error(context, known, error.sentences, held=error.held_by_guard)
        if error.retry_helps:
            raise
        raise AirflowFailException(str(error)) from None
    except Exception as error:
        _emit_error(context, known, [f"{type(error).__name__}; see the task's log"])
        raise
    except TaskEnded as error:
        _forget(error)
        _emit_error(context, known, [str(error)])
        raise
    except BaseException as error:
        # By a timeout, or an interruption: the driver's error that it came with may quote a value.
        _forget(error)
        raise


def _forget(error: BaseException) -> None:
    """Drop what an error was raised for: a traceback does not show it, though code can still read it."""
    error.__cause__ = error.__context__ = None


def emit_state(
    context: Context,
    known: Mapping[str, Any],
    state: str,
    sentences: Sequence[str],
    *,
    audiences: Sequence[str] = (),
) -> None:
    """Push what stopped a task, or audiences of it, to XCom.

    :param state: ``held`` by a guard, ``failed``, or ``skipped``.
    :param sentences: ours, which hold neither a user id nor a value.
    :param audiences: ids of those that alone are held.
    """
    shown = list(sentences[:MOST_SENTENCES])
    if more := len(sentences) - len(shown):
        shown.append(f"and {more:,} more")
    where = {n: known[n] for n in ("sync_id", "as_of", "destination") if known.get(n) is not None}
    where |= {"audiences": list(audiences)} if audiences else {}
    context["ti"].xcom_push(key=STATE_KEY, value={**where, "state": state, "sentences": shown})


def emit_held(context: Context, summary: Mapping[str, Any]) -> None:
    """Push to XCom which audiences of a change set are held, while the others are published."""
    if held := summary.get("held_audiences"):
        count_stop(summary, "held")
        emit_state(context, summary, "held", describe_held(summary["sync_id"], held), audiences=sorted(held))


def _emit_error(
    context: Context | None, known: Mapping[str, Any] | None, sentences: Sequence[str], *, held: bool = False
) -> None:
    if context is not None:
        state = "held" if held else "failed"
        count_stop(known or {}, state)
        # A failed push must not take the error's place.
        with contextlib.suppress(Exception):
            emit_state(context, known or {}, state, sentences)


def _write(context: Context | None, sentences: Sequence[str]) -> None:
    """Write to a task's log why it stops, a line each, before Airflow writes a stack of its own frames."""
    # A command renders a task without a task instance, and prints the sentence itself.
    if context is None or "ti" not in context:
        return
    for sentence in sentences[:MOST_SENTENCES]:
        _log.error("%s", sentence)
    _log.error(WHERE_TO_LOOK)
