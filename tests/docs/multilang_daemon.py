"""Plays the KCL's MultiLangDaemon for one shard: lines of JSON to and from a record processor's own process.

The record processor runs on the real ``amazon_kclpy``. As the daemon does, this one gives the next records,
whatever became of those before, keeps what it is asked to remember, and ends when the process ends; whoever
supervises it starts another, which goes on from what was remembered last.
Protocol: https://github.com/awslabs/amazon-kinesis-client/blob/master/amazon-kinesis-client-multilang/src/main/java/
software/amazon/kinesis/multilang/package-info.java
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.docs.pages import ROOT
from tests.engines.environments import packages

SHARD = "shardId-000000000000"


class ProcessorEnded(Exception):
    """The record processor's process ended before it had answered."""


class Daemon:
    """One shard, and what is remembered of it.

    :param script: what the record processor's file holds.
    :param records: the shard's, in order.
    :param environment: more variables of its process.
    :ivar remembered: how many of the records a checkpoint covers.
    :ivar starts: of the process, and ``ended_with`` the codes that it ended with by itself.
    :ivar errors: what it wrote to standard error, in all its lives.
    """

    def __init__(
        self, script: str, records: Sequence[bytes], environment: Mapping[str, str], folder: Path
    ) -> None:
        self._file = folder / "consumer.py"
        self._file.write_text(script)
        self._log = folder / "stderr.txt"
        self._log.touch()
        path = f"{ROOT}:{packages('kcl')}"
        self._environment = {**environment, "PYTHONPATH": path, "PATH": "/usr/bin:/bin"}
        self.records = list(records)
        self.remembered, self.starts = 0, 0
        self.ended_with: list[int] = []
        self.refusals: list[str] = []
        self.answered: Callable[[Daemon, str], None] = lambda daemon, action: None
        self._process: subprocess.Popen[str]
        self._given = 0

    @property
    def errors(self) -> str:
        return self._log.read_text()

    def run(self, *, at_once: int = 25, end: str = "shardEnded", lives: int = 5) -> None:
        """Give all records, then the end; start the process again where it ends, up to ``lives`` times."""
        while True:
            try:
                self._live(at_once, end)
                return
            except ProcessorEnded:
                if self.starts == lives:
                    raise

    def _live(self, at_once: int, end: str) -> None:
        self.starts += 1
        with (
            self._log.open("a") as log,
            subprocess.Popen(
                [sys.executable, self._file],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                text=True,
            ) as process,
        ):
            self._process, self._given = process, self.remembered
            try:
                self._do({"action": "initialize", "shardId": SHARD, "sequenceNumber": str(self.remembered)})
                while self._given < len(self.records):
                    first, self._given = self._given, min(self._given + at_once, len(self.records))
                    records = [self._record(n) for n in range(first, self._given)]
                    self._do({"action": "processRecords", "records": records, "millisBehindLatest": 0})
                self._do({"action": end})
            except ProcessorEnded:
                self.ended_with.append(process.wait())
                raise
            finally:
                if process.poll() is None:
                    assert process.stdin is not None
                    process.stdin.close()
                    process.wait()

    def _record(self, number: int) -> Mapping[str, Any]:
        return {
            "action": "record",
            "data": base64.b64encode(self.records[number]).decode(),
            "partitionKey": "key",
            "approximateArrivalTimestamp": 1_775_000_000_000 + number,
            "sequenceNumber": str(number),
            "subSequenceNumber": 0,
        }

    def _do(self, action: Mapping[str, Any]) -> None:
        """Give a line, and answer until its status comes."""
        self._write({"subSequenceNumber": 0, **action})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.strip():
                continue
            answer = json.loads(line)
            if answer["action"] == "status":
                assert answer["responseFor"] == action["action"]
                self.answered(self, action["action"])
                return
            assert answer["action"] == "checkpoint"
            error = self.refusals.pop(0) if self.refusals else None
            if error is None:
                # Without a number it is the last record that was given, applied or not.
                asked = answer["sequenceNumber"]
                self.remembered = self._given if asked is None else int(asked) + 1
            self._write({"action": "checkpoint", "sequenceNumber": "0", "subSequenceNumber": 0, "error": error})
        raise ProcessorEnded

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProcessorEnded from None
