"""How fast records are put, and at what cost: this package beside other clients, in one run.

All begin with the same records. Ours puts as the operators do: ``produce`` with the hook's ``put``, an ordering
key for each record; the others are given lists that fill their requests, and look whether all was taken. The
endpoint is a process of its own that takes everything, counts records and answers at once or after a while; it
does little, so that two cores are enough. What counts is the ratio to the plain SDK in the same run: a speed is
the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import logging
import multiprocessing
import os
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import boto3
from airflow.providers.amazon.aws.hooks.firehose import FirehoseHook
from botocore.config import Config

from airflow_kinesis_audience.core.producer.acknowledged import AcknowledgedOrdinals
from airflow_kinesis_audience.core.producer.producer import produce
from airflow_kinesis_audience.core.producer.records import Destination, Record
from airflow_kinesis_audience.demo.local_airflow import point_airflow_to
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
from tests.benchmarks.peers import peers

TIMES = 3
LATENCY_SECONDS = 0.02
PARTITIONS = 16
SHARDS = 8
PER_CALL = 500
CALL_BYTES = 5_000_000

OURS, BOTO3, BOTO3_THREADS = "this package", "boto3, 1 thread", "boto3, 8 threads"
PROVIDER, ASYNC_KINESIS = "FirehoseHook.put_records", "async-kinesis"


@dataclass(frozen=True)
class Load:
    """What is put: so many records of so many bytes, to an endpoint that answers after a while."""

    name: str
    count: int
    size: int
    latency_seconds: float = 0.0

    def records(self) -> list[Record]:
        """Make records as a delivery has them: an ordering key each, and few partition keys."""
        texts = [os.urandom(self.size // 2).hex().encode() for _ in range(1_000)]
        keys = [(f"0123456789abcdef-{n}", (2 * n + 1) * 2**128 // (2 * PARTITIONS)) for n in range(PARTITIONS)]
        return [
            Record(n, texts[n % 1_000], *keys[n % PARTITIONS], changes=1, ordering_key=str(n))
            for n in range(self.count)
        ]


SMALL = Load("100 B", 200_000, 100)
LARGE = Load("50 KiB", 3_000, 50 * 1024)
FAR = Load("100 B, 20 ms away", 200_000, 100, LATENCY_SECONDS)
LOADS = (SMALL, LARGE, FAR)


@dataclass(frozen=True)
class Measured:
    """The medians of one client under one load."""

    seconds: float
    cpu_seconds: float


def main() -> bool:
    """Measure, print, and return whether the goals are met."""
    found: dict[tuple[Load, str], Measured | None] = {}
    with tempfile.TemporaryDirectory(prefix="audience-benchmark-") as home:
        point_airflow_to(Path(home))
        logging.disable(logging.WARNING)
        print(f"{'load':20}{'client':28}{'records/s':>11}{'MB/s':>8}{'CPU us/record':>15}{'ratio':>8}{'CPU':>7}")
        for load in LOADS:
            with endpoint(load.latency_seconds) as url:
                point_clients_to(url)
                for name, measured in measure(load, url):
                    found[load, name] = measured
                    print_line(load, name, measured, found.get((load, BOTO3)))
    met = [is_met(*goal) for goal in goals(found)]
    return all(met)


def measure(load: Load, url: str) -> Iterator[tuple[str, Measured | None]]:
    """Give each client's medians; one at a time is put less where each request takes long."""
    records = load.records()
    fit = min(PER_CALL, CALL_BYTES // records[0].size)
    batches = [records[start : start + fit] for start in range(0, len(records), fit)]
    few = batches[: len(batches) // 8] if load.latency_seconds else batches
    client = boto3.client("kinesis", endpoint_url=url, config=Config(max_pool_connections=64))
    hook, provider = KinesisStreamHook("changes"), FirehoseHook("changes")
    runs: dict[str, Callable[[], int]] = {
        BOTO3: lambda: sum(put_by_boto3(client, batch) for batch in few),
        BOTO3_THREADS: lambda: put_in_threads(client, batches),
        PROVIDER: lambda: sum(put_by_provider(provider, batch) for batch in few),
        ASYNC_KINESIS: lambda: asyncio.run(put_by_async_kinesis(url, records[: load.count // 10])),
        OURS: lambda: put_by_us(hook, records),
    }
    # At the end, so that of what is in both the project's own counts.
    sys.path.append(str(peers()))
    if importlib.util.find_spec("kinesis") is None:
        del runs[ASYNC_KINESIS]
        yield ASYNC_KINESIS, None
    with contextlib.redirect_stdout(io.StringIO()):  # the first time, Airflow prints whose credentials these are
        for run in runs.values():
            run()
    taken: dict[str, list[Measured]] = {name: [] for name in runs}
    # In turns, so that what else the machine does meets all alike.
    for _ in range(TIMES):
        for name, run in runs.items():
            taken[name].append(timed(run, load.count))
    for name, times in taken.items():
        seconds = statistics.median(one.seconds for one in times)
        yield name, Measured(seconds, statistics.median(one.cpu_seconds for one in times))


def timed(run: Callable[[], int], count: int) -> Measured:
    """Time a run, and give what it would have taken for all records if it puts but a part of them."""
    began, cpu = time.perf_counter(), time.process_time()
    part = count / run()
    return Measured((time.perf_counter() - began) * part, (time.process_time() - cpu) * part)


def put_by_boto3(client: Any, batch: Sequence[Record]) -> int:
    entries = [
        {"Data": r.data, "PartitionKey": r.partition_key, "ExplicitHashKey": str(r.hash_key)} for r in batch
    ]
    answer = client.put_records(StreamName="changes", Records=entries)
    return require_taken(answer["FailedRecordCount"], answer["Records"], batch)


def put_in_threads(client: Any, batches: Sequence[Sequence[Record]]) -> int:
    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(lambda batch: put_by_boto3(client, batch), batches))


def put_by_provider(hook: FirehoseHook, batch: Sequence[Record]) -> int:
    answer = hook.put_records([{"Data": record.data} for record in batch])
    return require_taken(answer["FailedPutCount"], answer["RequestResponses"], batch)


def require_taken(failed: int, results: Sequence[Any], batch: Sequence[Record]) -> int:
    if failed or len(results) != len(batch):
        raise RuntimeError("the endpoint did not take every record")
    return len(batch)


async def put_by_async_kinesis(url: str, records: Sequence[Record]) -> int:
    """Put through a client that is no requirement of this package, without its own rate limit."""
    from kinesis import Producer, StringProcessor  # type: ignore[import-not-found]

    far_beyond = {"put_rate_limit_per_shard": 10**7, "put_bandwidth_limit_per_shard": 10**7}
    how = {"endpoint_url": url, "region_name": "us-east-1", "skip_describe_stream": True, **far_beyond}
    async with Producer(stream_name="changes", processor=StringProcessor(), **how) as producer:
        for record in records:
            await producer.put(record.data.decode())
        await producer.flush()
    return len(records)


def put_by_us(hook: KinesisStreamHook, records: Sequence[Record]) -> int:
    destination = Destination(put=hook.put, limits=hook.limits)
    result = produce([records], destination, acknowledged=AcknowledgedOrdinals(), on_progress=lambda _: None)
    if result.failure or result.delivered != len(records):
        raise RuntimeError(f"not every record was delivered: {result.failure}")
    return result.delivered


def print_line(load: Load, name: str, measured: Measured | None, plain: Measured | None) -> None:
    if measured is None or plain is None:
        print(f"{load.name:20}{name:28}  not installed", flush=True)
        return
    rate = load.count / measured.seconds
    columns = f"{rate:>11,.0f}{rate * load.size / 1e6:>8.1f}{measured.cpu_seconds / load.count * 1e6:>15.2f}"
    ratios = f"{plain.seconds / measured.seconds:>8.2f}{measured.cpu_seconds / plain.cpu_seconds:>7.2f}"
    print(f"{load.name:20}{name:28}{columns}{ratios}", flush=True)


def goals(found: dict[tuple[Load, str], Measured | None]) -> Iterator[tuple[str, float, float]]:
    """Give sentences, what was measured, and what it is to be at least."""

    def faster(load: Load, than: str) -> float:
        ours, other = found[load, OURS], found[load, than]
        return other.seconds / ours.seconds if ours and other else 0.0

    def cheaper(load: Load, than: str) -> float:
        ours, other = found[load, OURS], found[load, than]
        return other.cpu_seconds / ours.cpu_seconds if ours and other else 0.0

    yield "100 B: records/s, times boto3's", faster(SMALL, BOTO3), 5.0
    yield "100 B: boto3's CPU per record, times ours", cheaper(SMALL, BOTO3), 4.5
    yield "50 KiB: MB/s, times boto3's", faster(LARGE, BOTO3), 2.5
    yield "20 ms away: records/s, times boto3's with 8 threads", faster(FAR, BOTO3_THREADS), 2.5


def is_met(sentence: str, measured: float, goal: float) -> bool:
    print(f"{sentence}: {measured:.2f}, goal {goal:.1f}: {'met' if measured >= goal else 'NOT met'}")
    return measured >= goal


def point_clients_to(url: str) -> None:
    """Make the endpoint the one that all clients find."""
    fields = {"conn_type": "aws", "login": "testing", "password": "testing"}
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    os.environ.update(
        AIRFLOW_CONN_AWS_DEFAULT=json.dumps({**fields, "extra": extra}),
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="us-east-1",
    )


@contextmanager
def endpoint(latency_seconds: float) -> Iterator[str]:
    """Serve from a process of its own; gives the URL."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs, latency_seconds), daemon=True)
    process.start()
    yield str(ours.recv())
    ours.send("enough")
    process.join(30)


def serve(benchmark: Connection, latency_seconds: float) -> None:
    """Take connections, each in a thread, until the benchmark has enough."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=answer_requests, args=(connection, latency_seconds), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    benchmark.send(f"http://127.0.0.1:{server.getsockname()[1]}")
    benchmark.recv()


def answer_requests(connection: socket.socket, latency_seconds: float) -> None:
    """Read requests and acknowledge as many records as each has, with as few steps as can be."""
    memory = bytearray(16_000_000)
    view = memoryview(memory)
    answers: dict[tuple[bool, int], bytes] = {}
    while filled := connection.recv_into(view):
        end = memory.find(b"\r\n\r\n", 0, filled) + 4
        head = bytes(view[:end])
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if end < 4 or length is None:
            raise RuntimeError("a request's head did not come in one piece, or without a length")
        whole = end + int(length[1])
        if filled < whole:
            connection.recv_into(view[filled:whole], whole - filled, socket.MSG_WAITALL)
        kind = b"PutRecordBatch" in head, memory.count(b'"Data"', end, whole)
        if kind not in answers:
            answers[kind] = render_answer(*kind)
        if latency_seconds:
            time.sleep(latency_seconds)
        connection.sendall(answers[kind])


def render_answer(firehose: bool, count: int) -> bytes:
    """Make an answer in which every record is acknowledged, as long as the real ones are."""
    number = "49590338271490256608559692538361571095921575989136588"
    if firehose:
        answer: dict[str, Any] = {"FailedPutCount": 0, "Encrypted": False}
        answer["RequestResponses"] = [{"RecordId": f"{number}{n:03}" * 4} for n in range(count)]
    else:
        results = [
            {"SequenceNumber": f"{number}{n:03}", "ShardId": f"shardId-{n % SHARDS:012}"} for n in range(count)
        ]
        answer = {"FailedRecordCount": 0, "Records": results}
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
