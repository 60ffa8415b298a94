"""Tells people when an audience's state changes: once per change, not once per retry or per run that fails again.

It composes the message and decides whether there is one; how it is sent is for Airflow's own notifiers. What was
told last is kept in an Airflow Variable per task. A message holds counts, instants and names of syncs, audiences
and destinations, never a user.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from airflow.sdk import Context

State = Literal["ok", "held", "failed", "late"]

_WORDS = {"held": "held by a guard", "failed": "failed", "late": "late", "ok": "ok again"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Happened:
    """What became of a task, as of an instant.

    :param overdue: it took longer than it may, whatever became of it.
    :param ended: no attempt comes any more.
    :param asks: a person is asked, for this instant alone.
    """

    state: State
    as_of: datetime
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
    if told and happened.as_of < told.as_of:
        return None, None  # a run of the past says nothing of how it is now
    now: State = "late" if happened.overdue and happened.state in ("ok", "failed") else happened.state
    if not happened.ended and now != "late":
        return None, None
    # What came too late is there now: told as late, and over.
    after: State = "ok" if happened.state == "ok" else now
    remembered = Told(state=after, as_of=happened.as_of)
    asked_anew = happened.asks and (told is None or told.as_of < happened.as_of)
    return (now if now != before or asked_anew else None), remembered


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
        """Send a message if the state has changed."""
        known = _known(context)
        happened = self._happened(context, known)
        key = _key(context)
        told = self._read(key)
        state, remembered = decide(told, happened)
        if state is not None and not self._send(context, _message(context, known, state)):
            return
        if remembered is not None and remembered != told:
            self._write(key, remembered)

    def _happened(self, context: Context, known: Mapping[str, Any]) -> Happened:
        as_of = instant(known["as_of"])
        overdue = self.late_after is not None and datetime.now(UTC) > as_of + self.late_after
        if known.get("state") == "held":
            asks = not context.get("exception") and isinstance(context["task"], AudienceApprovalOperator)
            return Happened(state="held", as_of=as_of, asks=asks)
        if not context.get("exception"):
            return Happened(state="ok", as_of=as_of, overdue=overdue)
        again = str(getattr(context["ti"], "state", "")).endswith("up_for_retry")
        return Happened(state="failed", as_of=as_of, overdue=overdue, ended=not again)

    def _send(self, context: Context, message: Mapping[str, Any]) -> bool:
        """Send by every way; tells whether any of them succeeded."""
        sent = False
        for one in self.send:
            try:
                one({**context, "audience": message})  # type: ignore[typeddict-unknown-key]
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
    mapped = f"/{ti.map_index}" if (ti.map_index or -1) >= 0 else ""
    return f"audience_notified/{ti.dag_id}/{ti.task_id}{mapped}"


def _known(context: Context) -> dict[str, Any]:
    """Gather what the task has told of itself: why it stopped first, then its summary."""
    ti = context["ti"]
    for key in (STATE_KEY, SUMMARY_KEY, "return_value"):
        found = ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
        if isinstance(found, Mapping) and "as_of" in found:
            return dict(found)
    run = context["dag_run"]
    as_of = context.get("data_interval_end") or run.logical_date or run.run_after
    error = context.get("exception")
    name = error if isinstance(error, str | None) else type(error).__name__
    return {"as_of": instant_text(as_of), "sentences": [f"{name}; the task's log has more"] if error else []}


def _message(context: Context, known: Mapping[str, Any], state: State) -> dict[str, Any]:
    ti = context["ti"]
    name = known.get("sync_id") or f"{ti.dag_id}.{ti.task_id}"
    to = f" to {known['destination']}" if "destination" in known else ""
    counts = ", ".join(
        f"{known[n]:,} {n}" for n in ("entered", "exited", "updated", "members", "delivered") if n in known
    )
    lines = [f"As of {known['as_of']}, run {ti.run_id}, attempt {ti.try_number}.", *known.get("sentences", ())]
    told = {n: known.get(n) for n in ("sync_id", "as_of", "destination")}
    return {
        **told,
        "state": state,
        "title": f"{name}{to}: {_WORDS[state]}",
        "text": "\n".join([*lines, *([f"{counts}."] if counts else []), str(ti.log_url)]),
        "url": ti.log_url,
    }
