"""What the publish tasks after a diff task would put of a plan, with masked values.

No stream is asked for anything, and nothing of a row but the audience, and which columns have a value, is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.cli import dag_task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.changes.plan import Plan
    from airflow_kinesis_audience.core.changes.planned_rows import Sampled
    from airflow_kinesis_audience.core.outbox.delivery import Delivery
    from airflow_kinesis_audience.operators.publish import PublishOperator


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """What one destination would get of the first changes of each audience.

    :param changes: each change, and the bytes of its messages as if it were the only one.
    :param missing: why there are none.
    """

    destination: str
    message_format: str
    changes: Sequence[tuple[Sampled, Sequence[bytes]]] = ()
    missing: str = ""


def render_plan(diff: Any, found: Plan, as_of: datetime | None) -> Iterator[Rendered]:
    """Render the first changes of a plan for each publish task that takes the diff task's result.

    :param as_of: by which templates of the publish tasks are rendered.
    :raises ValueError: if a publish task has invalid arguments.
    """
    for task in _find_publishers(diff):
        context = dag_task.make_context(task, as_of)
        for field in ("stream_name", "delivery_stream_name", "aws_conn_id", "region_name", "format_options"):
            setattr(task, field, task.render_template(getattr(task, field), context))
        yield render_for(found, task.build_delivery(task.build_stream()))


def _find_publishers(diff: Any) -> Iterator[PublishOperator]:
    from airflow_kinesis_audience.operators.publish import PublishOperator

    for task in diff.dag.tasks:
        made = task
        if issubclass(getattr(task, "operator_class", object), PublishOperator):
            made = task.unmap({})  # the parts of a delivery differ in nothing that is rendered
        if isinstance(made, PublishOperator) and _has_result_of(made, diff):
            yield made


def _has_result_of(task: PublishOperator, diff: Any) -> bool:
    given = getattr(task.change_set, "operator", None)
    return given is not None and given.task_id == diff.task_id


def render_for(found: Plan, delivery: Delivery) -> Rendered:
    """Render the first changes of a plan as a delivery would put them, with masked values."""
    from airflow_kinesis_audience.core.readers.change_sets import ChangeSet
    from airflow_kinesis_audience.core.readers.masked_sample import MaskedChange, render_masked
    from airflow_kinesis_audience.formats import FORMATS

    where: dict[str, Any] = {"destination": delivery.destination, "message_format": delivery.message_format}
    if delivery.message_format not in FORMATS or delivery.renderer.traits.transform:
        why = "not rendered: your own format or transform may not expect masked values"
        return Rendered(**where, missing=why)
    if found.layout is None:
        return Rendered(**where, missing="not rendered: the change set of this instant is recorded already")
    change_set = ChangeSet(
        sync_id=found.sync_id,
        as_of=found.as_of,
        previous_as_of=found.previous_as_of,
        schema="",
        table="",
        rows=1,
        slice_rows=1,
        layout=found.layout,
        names={a.audience_id: a.audience_name for a in found.named if a.audience_id and a.audience_name},
    )
    envelope = delivery.envelope(change_set.sync_id, change_set.instants)

    def render(change: Sampled) -> Sequence[bytes]:
        masked = MaskedChange(
            audience_id=change.audience_id,
            action=change.action,
            updated=change.updated,
            filled=change.filled,
            changed=change.changed,
        )
        documents = render_masked(change_set, delivery.renderer, envelope, masked)
        return [document + delivery.record_end for document in documents]

    return Rendered(**where, changes=[(change, render(change)) for change in found.leading])
