"""``python -m tests.airflow.lost_task FILE DAG_ID TASK_ID …``: has Airflow call back for tasks that were killed.

When a task's process is gone the scheduler asks the dag processor to call back. Here that one's own process, with
its own API, runs the callbacks of some tasks of a DAG's newest run, in one go.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path


def lose(path: Path, dag_id: str, task_ids: list[str]) -> None:
    """Run the callbacks."""
    import structlog
    from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TIRunContext
    from airflow.callbacks.callback_requests import TaskCallbackRequest
    from airflow.dag_processing.processor import DagFileProcessorProcess
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.api.client import Client
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select
    from uuid6 import uuid7

    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id)).all()
        newest = max(found, key=lambda ti: ti.dag_run.id).run_id
        tasks = {ti.task_id: ti for ti in found if ti.run_id == newest}
        requests = [
            TaskCallbackRequest(
                filepath=path.name,
                bundle_name="dags-folder",
                bundle_version=None,
                ti=ti,
                msg="killed",
                task_callback_type=(
                    TaskInstanceState.UP_FOR_RETRY
                    if ti.max_tries and ti.try_number <= ti.max_tries
                    else TaskInstanceState.FAILED
                ),
                context_from_server=TIRunContext(
                    dag_run=DagRun.model_validate(ti.dag_run, from_attributes=True),
                    max_tries=ti.max_tries,
                    variables=[],
                    connections=[],
                    xcom_keys_to_clear=[],
                ),
            )
            for ti in map(tasks.__getitem__, task_ids)
        ]
    client = Client(base_url=None, token="", dry_run=True, transport=InProcessExecutionAPI().transport)
    client.base_url = "http://in-process.invalid./"
    with tempfile.TemporaryFile() as log:
        process = DagFileProcessorProcess.start(
            id=uuid7(),
            path=path,
            bundle_path=path.parent,
            bundle_name="dags-folder",
            dag_file_rel_path=path.name,
            callbacks=requests,
            logger=structlog.get_logger(),
            logger_filehandle=log,
            client=client,
        )
        deadline = time.monotonic() + 120
        while not process.is_ready and time.monotonic() < deadline:
            process._service_subprocess(0.1)
        if not process.is_ready:
            process.kill()
            raise TimeoutError("the dag processor has not run the callbacks")


if __name__ == "__main__":
    lose(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
