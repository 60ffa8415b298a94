"""Tells people when an audience's state changes: once per change, not once per retry or per run that fails again.

It composes the message and decides whether there is one; how it is sent is for Airflow's own notifiers. What was
told last is kept in an Airflow Variable per task. A message holds counts, instants and names of syncs, audiences
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

from airflow_kinesis_audience.audience import instant, instant_text
from airflow_kinesis_audience.operators.approve import AudienceApprovalOperator
from airflow_kinesis_audience.operators.destination import SUMMARY_KEY
from airflow_kinesis_audience.operators.outcome import STATE_KEY
from airflow_kinesis_audience.operators.run import as_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context

State = Literal["ok", "held", "failed", "late"]

_LONGEST_KEY = 250
"""So long may a Variable's name be."""

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {"held": "held by a guard", "failed": "failed", "late": "late", "ok": "ok again"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """What became of a task, as of an instant.

    :param as_of: the instant of the run, by which runs are in order; none where it is not known, or lies in the
        future: such a run counts as the newest, and none after it as older.
    :param overdue: it took longer than it may, whatever became of it.
    :param ended: no attempt comes any more.
    :param asks: a person is asked, for this instant alone.
    """

    state: State
    as_of: datetime | None
    overdue: bool = False
    ended: bool = True
    asks: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What was told last."""

    state: State
    as_of: datetime


def decide(told: Told | None, happened: Happened) -> tuple[State | None, Told | None]:
    """Decide what to tell people, and what to remember.

    :returns: the state to tell of, or none; and what is then told, or none where nothing changes.
    """
    before: State = told.state if told else "ok"
    newest = told.as_of if told else _NEVER
    as_of = happened.as_of or newest
    if as_of < newest:
        return None, None  # a run of the past says nothing of how it is now
    if not happened.ended:
        # Told once: where it is known that something is wrong, it being late as well is no news.
        return ("late", Told(state="late", as_of=as_of)) if happened.overdue and before == "ok" else (None, None)
    remembered = Told(state=happened.state, as_of=as_of)
    if happened.state == "ok" and happened.overdue and before in ("ok", "late"):
        # It is there now: told as late, and over. A run that was in time and is cleared has been told.
        return ("late" if before == "ok" and (told is None or newest < as_of) else None), remembered
    asked_anew = happened.asks and (told is None or newest < as_of)
    return (happened.state if happened.state != before or asked_anew else None), remembered


class AudienceNotifier(BaseNotifier):
    """Send one message per change of an audience task's state: held by a guard, failed, late, ok again.

    Give it as ``on_failure_callback`` and ``on_success_callback`` of diff and publishing tasks, as
    ``on_retry_callback``, too, where lateness is to be told before the last attempt, and among the ``notifiers``
    of an approval, where it tells of each question once. Each task has a state of its own. The message is in the
    context as ``audience``, for the templates of the notifiers that send it: ``title``, ``text``, ``state``,
    ``sync_id``, ``as_of``, ``destination``, ``url``.

    :param send: Airflow notifiers, or functions of the context. If none of them succeeds, the change counts as not
        told.
    :param late_after: from the instant that a run speaks for, until it is late; by default never.
    """

    def __init__(self, *, send: Sequence[Callable[[Context], Any]], late_after: timedelta | None = None) -> None:
        super().__init__()
        self.send = send
        self.late_after = late_after

    def notify(self, context: Context) -> None:
        """Send a message if the state has changed. Whatever goes wrong here does not fail the task."""
        try:
            self._notify(context)
        except Exception as error:
            self.log.error("Whether the state has changed could not be found out (%s)", type(error).__name__)

    def _notify(self, context: Context) -> None:
        known = _known(context)
        happened = self._happened(context, known)
        if happened is None:
            return
        key = _key(context)
        told = self._read(key)
        state, remembered = decide(told, happened)
        if state is not None and not self._send(context, _message(context, known, state)):
            return
        if remembered is not None and remembered != told:
            self._write(key, remembered)

    def _happened(self, context: Context, known: Mapping[str, Any]) -> Happened | None:
        """Tell what became of the task; nothing where it was skipped."""
        became, as_of = _became(context), _as_of(context)
        due = instant(known["as_of"]) if "as_of" in known else as_of
        backfill = getattr(context.get("dag_run"), "run_type", None) == "backfill"
        overdue = bool(self.late_after and due and datetime.now(UTC) > due + self.late_after) and not backfill
        approval = isinstance(context["task"], AudienceApprovalOperator)
        # An approval is asked what is held; whether that is answered, or how else it ends, is not held anew.
        held = known.get("state") == "held" and (not approval or became in ("running", "success"))
        if held and became != "up_for_retry":
            asks = approval and became == "running"
            return Happened(state="held", as_of=as_of, asks=asks)
        if became in ("failed", "up_for_retry"):
            return Happened(state="failed", as_of=as_of, overdue=overdue, ended=became == "failed")
        return Happened(state="ok", as_of=as_of, overdue=overdue) if became == "success" else None

    def _send(self, context: Context, message: Mapping[str, Any]) -> bool:
        """Send by every way; tells whether any of them succeeded."""
        sent = False
        for one in self.send:
            try:
                # A notifier renders its templates in itself, and one may serve several tasks in one process.
                sender = copy.copy(one) if isinstance(one, BaseNotifier) else one
                sender({**context, "audience": message})  # type: ignore[typeddict-unknown-key]
                sent = True
            except Exception as error:
                self.log.error("A message about %s could not be sent (%s)", message["title"], type(error).__name__)
        return sent

    def _read(self, key: str) -> Told | None:
        try:
            found = Variable.get(key, default=None, deserialize_json=True)
            return found and Told(state=found["state"], as_of=instant(found["as_of"]))
        except Exception as error:
            # A message too many is better than one that is missing.
            self.log.warning("The Variable %s could not be read (%s)", key, type(error).__name__)
            return None

    def _write(self, key: str, told: Told) -> None:
        try:
            Variable.set(key, {"state": told.state, "as_of": instant_text(told.as_of)}, serialize_json=True)
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
    # Not by the exception: of a process that was killed from outside the dag processor tells, which knows none.
    if (state := getattr(ti, "state", None)) is not None:
        return str(getattr(state, "value", state))
    return "up_for_retry" if ti.max_tries and ti.try_number <= ti.max_tries else "failed"


def _as_of(context: Context) -> datetime | None:
    """Return the run's own instant: a task's is its author's at times, and unknown where it broke off early."""
    with contextlib.suppress(ValueError, KeyError):
        return as_of_run(context)
    return None


def _known(context: Context) -> dict[str, Any]:
    """Gather what the task has told of itself: why it stopped first, then its summary."""
    ti, known = context["ti"], dict[str, Any]()
    for key in (STATE_KEY, SUMMARY_KEY, "return_value"):
        found = None
        with contextlib.suppress(Exception):  # a message that says less is better than none
            found = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
        if isinstance(found, Mapping) and ("as_of" in found or key == STATE_KEY):
            known = dict(found)
            break
    became, error = _became(context), context.get("exception")
    if became in ("failed", "up_for_retry") and "state" not in known:
        known["sentences"] = [
            f"{type(error).__name__}; the task's log has more"
            if isinstance(error, BaseException)
            else "the task's process ended without saying why: it was killed, or its machine is gone"
        ]
    if "as_of" not in known and (as_of := _as_of(context)):
        known["as_of"] = instant_text(as_of)
    return known


def _message(context: Context, known: Mapping[str, Any], state: State) -> dict[str, Any]:
    ti = context["ti"]
    name = known.get("sync_id") or f"{ti.dag_id}.{ti.task_id}"
    to = f" to {known['destination']}" if "destination" in known else ""
    counts = ", ".join(
        f"{known[n]:,} {n}" for n in ("entered", "exited", "updated", "members", "delivered") if n in known
    )
    when = f"As of {known['as_of']}, run" if "as_of" in known else "Run"
    lines = [f"{when} {ti.run_id}, attempt {ti.try_number}.", *known.get("sentences", ())]
    told = {n: known.get(n) for n in ("sync_id", "as_of", "destination")}
    return {
        **told,
        "state": state,
        "title": f"{name}{to}: {_WORDS[state]}",
        "text": "\n".join([*lines, *([f"{counts}."] if counts else []), str(ti.log_url)]),
        "url": ti.log_url,
    }
