"""Notifies people when an audience's state changes: once per change, not once per retry or failed run.

It composes the message and decides whether there is one; Airflow's own notifiers send it. The last state that was
notified is kept in an Airflow Variable per task. A message holds counts, instants and names of syncs, audiences
and destinations, never a user.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseNotifier
from airflow.sdk import Variable

from airflow_kinesis_audience.core.model.audience import COUNTS
from airflow_kinesis_audience.core.model.instants import instant, instant_text
from airflow_kinesis_audience.operators.approve import AudienceApprovalOperator
from airflow_kinesis_audience.operators.delivery_operator import SUMMARY_KEY
from airflow_kinesis_audience.operators.errors import STATE_KEY
from airflow_kinesis_audience.operators.run_context import run_as_of

if TYPE_CHECKING:
    from airflow.sdk import Context

State = Literal["ok", "held", "failed", "late"]

_LONGEST_KEY = 250
"""How many characters a Variable's name may have."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {"held": "held by a guard", "failed": "failed", "late": "late", "ok": "ok again"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutcome:
    """What became of a task, as of an instant.

    :param as_of: the instant of the run, by which runs are in order; none where it is not known, or lies in the
        future: such a run counts as the newest, and none after it as older.
    :param overdue: it took longer than it may, whatever became of it.
    :param ended: no further attempt follows.
    :param asks: a person is asked, for this instant alone.
    """

    state: State
    as_of: datetime | None
    overdue: bool = False
    ended: bool = True
    asks: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LastNotified:
    """The state that people were notified of last."""

    state: State
    as_of: datetime


def decide(last: LastNotified | None, outcome: TaskOutcome) -> tuple[State | None, LastNotified | None]:
    """Decide which state to notify of, and what to remember.

    :returns: the state to notify of, or none; and what to remember then, or none where nothing changes.
    """
    before: State = last.state if last else "ok"
    newest = last.as_of if last else _NEVER
    as_of = outcome.as_of or newest
    if as_of < newest:
        return None, None  # a run of the past does not show the present state
    if not outcome.ended:
        # Once: where people know that something is wrong, lateness is no news.
        return (
            ("late", LastNotified(state="late", as_of=as_of))
            if outcome.overdue and before == "ok"
            else (None, None)
        )
    remembered = LastNotified(state=outcome.state, as_of=as_of)
    if outcome.state == "ok" and outcome.overdue and before in ("ok", "late"):
        # It succeeded, but late: notify once. A run that was in time and is cleared needs no message.
        return ("late" if before == "ok" and (last is None or newest < as_of) else None), remembered
    asked_anew = outcome.asks and (last is None or newest < as_of)
    return (outcome.state if outcome.state != before or asked_anew else None), remembered


class AudienceNotifier(BaseNotifier):
    """Send one message when an audience task's state changes: held by a guard, failed, late, or successful again.

    Set it as ``on_failure_callback`` and ``on_success_callback`` of diff and publish tasks. Set it as
    ``on_retry_callback``, too, to notify of lateness before the last attempt. Add it to the ``notifiers`` of an
    approval to notify of each question once. Each task has its own state. The context has the message as
    ``audience``, for the templates of the notifiers that send it: ``title``, ``text``, ``state``, ``sync_id``,
    ``as_of``, ``destination``, ``url``.

    :param send: Airflow notifiers, or functions that get the context. If none succeeds, the change counts as not
        notified.
    :param late_after: time after a run's instant when the run is late; by default never.
    """

    def __init__(self, *, send: Sequence[Callable[[Context], Any]], late_after: timedelta | None = None) -> None:
        super().__init__()
        self.send = send
        self.late_after = late_after

    def notify(self, context: Context) -> None:
        """Send a message if the state has changed. An error here does not fail the task."""
        try:
            self._notify(context)
        except Exception as error:
            self.log.error("The previous state could not be read (%s)", type(error).__name__)

    def _notify(self, context: Context) -> None:
        known = _known(context)
        outcome = self._find_outcome(context, known)
        if outcome is None:
            return
        key = _key(context)
        last = self._read(key)
        state, remembered = decide(last, outcome)
        if state is not None and not self._send(context, _message(context, known, state)):
            return
        if remembered is not None and remembered != last:
            self._write(key, remembered)

    def _find_outcome(self, context: Context, known: Mapping[str, Any]) -> TaskOutcome | None:
        """Find what became of the task; none where it was skipped."""
        became, as_of = _became(context), _as_of(context)
        due = instant(known["as_of"]) if "as_of" in known else as_of
        backfill = getattr(context.get("dag_run"), "run_type", None) == "backfill"
        overdue = bool(self.late_after and due and datetime.now(UTC) > due + self.late_after) and not backfill
        approval = isinstance(context["task"], AudienceApprovalOperator)
        # An approval asks about what is held; its answer, or another end of it, is not held anew.
        held = known.get("state") == "held" and (not approval or became in ("running", "success"))
        if held and became != "up_for_retry":
            asks = approval and became == "running"
            return TaskOutcome(state="held", as_of=as_of, asks=asks)
        if became in ("failed", "up_for_retry"):
            return TaskOutcome(state="failed", as_of=as_of, overdue=overdue, ended=became == "failed")
        return TaskOutcome(state="ok", as_of=as_of, overdue=overdue) if became == "success" else None

    def _send(self, context: Context, message: Mapping[str, Any]) -> bool:
        """Send by every way; returns whether any of them succeeded."""
        sent = False
        for one in self.send:
            try:
                # A notifier renders its templates in place, and one may serve several tasks in one process.
                sender = copy.copy(one) if isinstance(one, BaseNotifier) else one
                sender({**context, "audience": message})  # type: ignore[typeddict-unknown-key]
                sent = True
            except Exception as error:
                self.log.error("A message about %s could not be sent (%s)", message["title"], type(error).__name__)
        return sent

    def _read(self, key: str) -> LastNotified | None:
        try:
            found = Variable.get(key, default=None, deserialize_json=True)
            return found and LastNotified(state=found["state"], as_of=instant(found["as_of"]))
        except Exception as error:
            # A message too many is better than one that is missing.
            self.log.warning("The Variable %s could not be read (%s)", key, type(error).__name__)
            return None

    def _write(self, key: str, notified: LastNotified) -> None:
        try:
            Variable.set(
                key, {"state": notified.state, "as_of": instant_text(notified.as_of)}, serialize_json=True
            )
        except Exception as error:
            self.log.warning("The Variable %s could not be written (%s)", key, type(error).__name__)


def _key(context: Context) -> str:
    ti = context["ti"]
    mapped = "" if ti.map_index is None or ti.map_index < 0 else f"/{ti.map_index}"
    key = f"audience_notified/{ti.dag_id}/{ti.task_id}{mapped}"
    if len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return f"{key[: _LONGEST_KEY - 17]}.{digest}"


def _became(context: Context) -> str:
    """Return the state that the task ended with; ``running`` where it is about to wait."""
    ti = context["ti"]
    # Not by the exception: for a process that was killed, the dag processor calls this, and it has none.
    if (state := getattr(ti, "state", None)) is not None:
        return str(getattr(state, "value", state))
    return "up_for_retry" if ti.max_tries and ti.try_number <= ti.max_tries else "failed"


def _as_of(context: Context) -> datetime | None:
    """Return the run's own instant: a task's is its author's at times, and unknown where it broke off early."""
    with contextlib.suppress(ValueError, KeyError):
        return run_as_of(context)
    return None


def _known(context: Context) -> dict[str, Any]:
    """Gather what the task has pushed to XCom: why it stopped first, then its summary."""
    ti, known = context["ti"], dict[str, Any]()
    for key in (STATE_KEY, SUMMARY_KEY, "return_value"):
        found = None
        with contextlib.suppress(Exception):  # a message with less in it is better than none
            found = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
        if isinstance(found, Mapping) and ("as_of" in found or key == STATE_KEY):
            known = dict(found)
            break
    became, error = _became(context), context.get("exception")
    if became in ("failed", "up_for_retry") and "state" not in known:
        known["sentences"] = [
            f"{type(error).__name__}; see the task's log"
            if isinstance(error, BaseException)
            else "the task's process ended without an error: it was killed, or its machine failed"
        ]
    if "as_of" not in known and (as_of := _as_of(context)):
        known["as_of"] = instant_text(as_of)
    return known


def _message(context: Context, known: Mapping[str, Any], state: State) -> dict[str, Any]:
    ti = context["ti"]
    name = known.get("sync_id") or f"{ti.dag_id}.{ti.task_id}"
    to = f" to {known['destination']}" if "destination" in known else ""
    became = _WORDS[state]
    if state == "held" and (alone := len(known.get("audiences", ()))):
        became = f"{alone:,} audience{' is' if alone == 1 else 's are'} {became}, all others are published"
    counts = ", ".join(f"{known[n]:,} {n}" for n in (*COUNTS, "delivered") if n in known)
    when = f"As of {known['as_of']}, run" if "as_of" in known else "Run"
    lines = [f"{when} {ti.run_id}, attempt {ti.try_number}.", *known.get("sentences", ())]
    named = {n: known.get(n) for n in ("sync_id", "as_of", "destination")}
    return {
        **named,
        "state": state,
        "title": f"{name}{to}: {became}",
        "text": "\n".join([*lines, *([f"{counts}."] if counts else []), str(ti.log_url)]),
        "url": ti.log_url,
    }
