"""The query of the docs over Firehose's files binds on whatever files there are, and ends as the reference."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from airflow_kinesis_audience.conformance import check_consumer
from tests.docs.messages import arriving, audience_message, audience_messages, encode, reference
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def query(folder: Path) -> set[tuple[str, str]]:
    text = blocks("sql", "docs/consumer-files.md")[0].text
    assert "'audience-changes/" in text
    with duckdb.connect() as database:
        return set(database.execute(text.replace("'audience-changes/", f"'{folder}/")).fetchall())


def write(folder: Path, name: str, *messages: bytes) -> None:
    file = folder / "2026/03/01" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = b"".join(message + b"\n" for message in messages)
    file.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)


def members(messages: list[bytes]) -> set[tuple[str, str]]:
    return {(audience, user) for audience, users in reference(messages).items() for user in users}


def test_it_ends_with_what_the_reference_says(tmp_path: Path) -> None:
    messages = arriving("mparticle_audience")
    for n in range(5):
        write(tmp_path, f"{n}.gz" if n % 2 else str(n), *messages[n::5])
    assert query(tmp_path) == members(messages)


def test_it_conforms(tmp_path: Path) -> None:
    def consume(messages: Sequence[bytes]) -> dict[str, set[str]]:
        write(tmp_path, str(len([*tmp_path.rglob("*")])), *messages)
        found: dict[str, set[str]] = {}
        for audience, user in query(tmp_path):
            found.setdefault(audience, set()).add(user)
        return found

    report = check_consumer(consume, "mparticle_audience", histories=20)
    assert report.passed, report


def test_it_binds_before_any_resync_or_deletion(tmp_path: Path) -> None:
    write(tmp_path, "0", encode(audience_message("u-1")))
    assert query(tmp_path) == {("90001", "u-1")}


def test_it_binds_on_files_that_hold_notices_alone_or_nothing(tmp_path: Path) -> None:
    write(tmp_path, "0")
    assert query(tmp_path) == set()
    write(tmp_path, "1", encode(audience_message(None, Lifecycle={"Event": "deleted"})))
    assert query(tmp_path) == set()


def test_a_folder_without_a_file_is_an_error_and_no_empty_audience(tmp_path: Path) -> None:
    with pytest.raises(duckdb.IOException, match="No files found"):
        query(tmp_path)


IDS = [
    "6FC7F773-A605-50D7-BA26-333226489322",
    "2026-01-01",
    "2026-01-01T00:00:00.000Z",
    "007",
    "1e3",
    "12345678901234567890",
    "TRUE",
    "null",
    "",
    "u\0x",
    "😀",
    " u ",
]


@pytest.mark.parametrize("ids", [*([one] for one in IDS), IDS])
def test_an_id_is_the_very_text_of_the_message(tmp_path: Path, ids: list[str]) -> None:
    sent = [
        audience_message(u, AudienceId=a) for u in ids for a in (90001, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")
    ]
    write(tmp_path, "0", *map(encode, sent))
    assert query(tmp_path) == members([encode(message) for message in sent])


def test_a_broken_line_stops_it_and_its_content_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path, "0", encode(audience_message("u-1")), b'{"AudienceId": "secret')
    with pytest.raises(duckdb.InvalidInputException) as stopped:
        query(tmp_path)
    assert "secret" not in str(stopped.value)


def test_many_histories_end_right(tmp_path: Path) -> None:
    for seed in range(20):
        sent: list[dict[str, Any]] = list(audience_messages(random.Random(seed)))
        messages = [json.dumps(message).encode() for message in sent]
        write(tmp_path, "0", *messages)
        assert query(tmp_path) == members(messages), seed
