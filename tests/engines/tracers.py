"""Puts records under a real tracer, in a process of its own, because a tracer patches the SDK for good.

Prints, as one line of JSON, what arrived at a scripted endpoint and what was logged on the way. ``put_under``
starts it; the tracers are in an environment beside the project's own.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engines.environments import packages

CONTEXT = "_datadog"


def put_under(tracer: str, **environment: str) -> dict[str, Any]:
    """Put the records of :func:`documents` under a tracer, twice to each service.

    :returns: ``requests``, of each the records in Base64; ``statuses``; ``spans``, how many calls the tracer saw;
        and ``logged``.
    """
    command = [sys.executable, "-m", "tests.engines.tracers", str(packages("tracers")), tracer]
    quiet = {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env=os.environ | quiet | {"AWS_XRAY_SDK_ENABLED": "true"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def documents() -> list[str]:
    """Return records that a tracer can read: JSON, as every format of ours writes it."""
    return [json.dumps({"user_id": n, "in_cohort": True}) + "\n" for n in range(4)]


def _datadog() -> Callable[[], int]:
    import ddtrace
    from ddtrace.trace import TraceFilter

    seen: list[Any] = []

    class Keep(TraceFilter):
        def process_trace(self, trace: list[Any]) -> None:
            seen.extend(trace)

    ddtrace.patch(botocore=True)
    ddtrace.tracer.configure(trace_processors=[Keep()])
    return lambda: sum("put" in span.resource.lower() for span in seen)


def _opentelemetry() -> Callable[[], int]:
    from opentelemetry import trace
    from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)

    def hook(_span: Any, _service: str, _operation: str, parameters: dict[str, Any]) -> None:
        """Do what its users do: put the context into every record."""
        for record in parameters["Records"]:
            record["Data"] = json.dumps({**json.loads(record["Data"]), CONTEXT: "x"})

    BotocoreInstrumentor().instrument(request_hook=hook)
    return lambda: sum("Put" in span.name for span in spans.get_finished_spans())


def _xray() -> Callable[[], int]:
    from aws_xray_sdk.core import xray_recorder
    from aws_xray_sdk.ext.botocore.patch import patch

    xray_recorder.configure(sampling=False, context_missing="IGNORE_ERROR")
    segment = xray_recorder.begin_segment("task")
    patch()
    return lambda: len(segment.subsegments)


TRACERS = {"datadog": _datadog, "opentelemetry": _opentelemetry, "xray": _xray}


def main(folder: str, tracer: str) -> None:
    """Put under one tracer, and print what came of it."""
    sys.path.append(folder)
    count_spans = TRACERS[tracer]()

    from airflow_kinesis_audience.core.producer.records import Record
    from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
    from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
    from tests.scripted_kinesis import ScriptedKinesis

    logged: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(f"{record.levelname} {record.getMessage()}")

    logging.getLogger().addHandler(Keep())
    logging.getLogger().setLevel(logging.INFO)
    batch = [Record(n, text.encode(), f"key-{n}", n << 100, 1) for n, text in enumerate(documents())]
    with ScriptedKinesis() as kinesis:
        extra = {"endpoint_url": kinesis.endpoint_url, "region_name": "eu-west-1"}
        fields = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(fields)
        hooks = [KinesisStreamHook("s"), FirehoseStreamHook("s")]
        statuses = [[outcome.status for outcome in hook.put(batch)] for hook in hooks for _ in range(2)]
        bodies = [[base64.b64encode(arrived.data).decode() for arrived in r] for r in kinesis.requests]
    print(
        json.dumps({"statuses": statuses, "requests": bodies, "spans": count_spans(), "logged": logged}),
        flush=True,
    )
    os._exit(0)  # a tracer's own threads may wait for an agent that is not there


if __name__ == "__main__":
    main(*sys.argv[1:])
