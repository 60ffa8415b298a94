"""Renders an operator's templates; a name that the run does not have ends the task, with what to use instead.

A run that is triggered without a logical date, as by ``airflow dags trigger``, or by an asset, has no ``ds`` and
no data interval. A retry would not change that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_kinesis_audience.operators.errors import airflow_outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context


class RendersTemplates(BaseOperator):
    """The part of an operator that renders its template fields."""

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render the fields; for a mapped task Airflow calls this alone."""
        from jinja2 import UndefinedError

        try:
            super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        except UndefinedError as error:
            with airflow_outcome(context):
                raise ValueError(describe_undefined(error, context)) from None


def describe_undefined(error: Exception, context: Context) -> str:
    """Describe that a template uses a name which the run does not have."""
    failed = f"a template of the task cannot be rendered: {error}"
    if context.get("logical_date") is not None:
        return f"{failed}. Correct the template"
    return (
        f"{failed}. This run has no logical date, so it has neither ds nor a data interval: `airflow dags "
        "trigger` and assets start such runs. In a diff task, use as_of, which every run has: {{ as_of | ds }}; "
        "in other tasks, use {{ dag_run.run_after | ds }}"
    )
