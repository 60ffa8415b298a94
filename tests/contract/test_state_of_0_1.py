"""A state that version 0.1 left on disk is gone on from: nothing is lost, and no more is sent than it would send.

What the state was made by, and what it is gone on by, are the stories of :mod:`tests.state_stories`. What went out
is compared with what version 0.1 put when it went on from the same state, and read by an oracle that is written
here in plain Python and shares nothing with the package.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_audience.core.exceptions import LedgerUnreadable
from tests.state_stories import (
    ENGINES,
    GOLDEN,
    STORIES,
    Line,
    Stage,
    append_raw,
    find_user,
    go_on,
    lines_of,
    load,
    open_stage,
    read_members,
    small,
)
from tests.warehouses import day, small_delivery

pytestmark = pytest.mark.usefixtures("no_epoch")

EVENTS = (
    *("started", "first", "change_set", "base", "sealed", "held", "retired", "dropped", "closed"),
    *("attached", "snapshot", "profiles", "sending", "unsent", "checkpoint", "rejected", "delivered", "detached"),
)
"""What rows of a ledger of version 0.1 say."""
DIGEST = "f5b42a3b7317b977f9fef13467dc8863df3c667d823fbaddab85a6d4adb0be54"
"""SHA-256 of the folder: names and contents of all files."""

Open = Callable[[str, str], Stage]
Facts = Mapping[tuple[str, str], str | None]
"""Audience and user to a city, or none where none was named."""


@pytest.fixture
def open_story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Bring the state of a story to an engine, and open it there."""
    opened = []

    def open_one(engine: str, name: str) -> Stage:
        dsn = request.getfixturevalue("postgres_database") if engine == "postgres" else ""
        load(engine, name, tmp_path, dsn)
        context = open_stage(engine, name, tmp_path, dsn)
        opened.append(context)
        return context.__enter__()

    yield open_one
    for context in opened:
        context.__exit__(None, None, None)


@cache
def read_json(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@cache
def read_records() -> list[Line]:
    lines = (GOLDEN / "records.ndjson").read_text(encoding="utf-8").splitlines()
    return [(data, key, hash_key) for data, key, hash_key in map(json.loads, lines)]


def lines(numbers: Mapping[str, Sequence[int]]) -> dict[str, list[Line]]:
    """Give the records of each stream; they are numbered from one, as the lines of their file are."""
    records = read_records()
    return {stream: [records[number - 1] for number in found] for stream, found in numbers.items()}


# --- the oracle: the newest time wins ----------------------------------------------------------------------------


def believe(documents: Sequence[str]) -> tuple[Facts, bool]:
    """Give what a reader of the documents believes, in whichever order they come, and whether they name cities."""
    newest: dict[tuple[str, str], tuple[int, bool, str | None]] = {}
    ended: dict[str, int] = {}
    for document in map(json.loads, documents):
        if document.get("lifecycle", {}).get("event") == "deleted":
            audience = document["cohort_id"]
            ended[audience] = max(int(document["computed_time"]), ended.get(audience, 0))
        for key, *fact in read(document):
            known = newest.setdefault(key, (-1, False, None))
            assert fact[0] != known[0] or fact[1] == known[1], "two facts of one user speak for one instant"
            newest[key] = max(known, (fact[0], fact[1], fact[2]), key=lambda f: (f[0], f[2] or ""))
    here = {k: city for k, (at, member, city) in newest.items() if member and at > ended.get(k[0], -1)}
    return here, any(city is not None for city in here.values())


def read(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], int, bool, str | None]]:
    """Give what a document says: audience and user, as of when, whether a member, and in which city."""
    if "users" in document:
        for user in document["users"]:
            named = user.get("user_properties", {})
            city = named.get("town", named.get("city"))
            key = document["cohort_id"], user["user_id"]
            yield key, int(document["computed_time"]), document["in_cohort"], city
    elif "segmentMembership" in document:
        [user] = [i["id"] for i in document["identityMap"]["crmid"]]
        for audience, said in document["segmentMembership"]["ups"].items():
            city = document.get("home", {}).get("city")
            yield (audience, user), int(document["computedTime"]), said["status"] != "exited", city
    else:
        [user] = [i["identity"] for i in document["user_identities"] if i["identity_type"] == "customer_id"]
        for event in document["events"]:
            yield ("events", event["data"]["event_name"]), 0, True, user


def check_truth(before: Sequence[Line], after: Sequence[Line], truth: Facts) -> None:
    """Check that who has read a stream from its beginning believes what is true, and of each message one text."""
    documents = [data for data, *_ in (*before, *after)]
    for order in (1, -1):
        found, names_cities = believe(documents[::order])
        assert set(found) == set(truth)
        if names_cities:
            assert found == truth
    texts: dict[str, str] = {}
    for document in documents:
        parsed = json.loads(document)
        message_id = parsed.get("message_id") or parsed["messageId"]
        assert texts.setdefault(message_id, document) == document


def as_known(found: Any, known: Any) -> Any:
    """Leave out of answers what version 0.1 did not say yet."""
    if isinstance(found, dict) and isinstance(known, dict):
        return {key: as_known(value, known[key]) for key, value in found.items() if key in known}
    if isinstance(found, list) and isinstance(known, list) and len(found) == len(known):
        return [as_known(one, other) for one, other in zip(found, known, strict=True)]
    return NAMED_NOW.get(found, found) if isinstance(found, str) else found


NAMED_NOW = {"before attachment": "known before"}
"""A state of a delivery that version 0.1 had no word of its own for."""


# --- going on ----------------------------------------------------------------------------------------------------

BETTER_NOW = {"claimed": ("met",)}
"""Answers of version 0.1 that none is needed for now: a claim that was left behind stops no attempt any more."""

BEGUN = [(engine, name) for name, story in STORIES.items() for engine in story.engines]


@pytest.mark.parametrize(("engine", "name"), BEGUN)
def test_going_on_from_a_state_of_0_1_gives_what_0_1_gave(open_story: Open, engine: str, name: str) -> None:
    expected, stage = read_json(engine)[name], open_story(engine, name)
    answers, truth = go_on(stage, expected["notes"])
    before, after, put = lines(expected["before"]), lines(expected["after"]), lines_of(stage)
    assert set(put) == set(after)
    for stream in after:
        assert Counter(put[stream]) == Counter(after[stream])
    # How much was left to be sent depends on the moment at which each engine's story was left.
    known = {**read_json("answers")[name], **expected["answers"]}
    known = {key: answer for key, answer in known.items() if key not in BETTER_NOW.get(name, ())}
    assert as_known(answers, known) == known
    assert stage.own == expected["own"]
    for stream, true in truth.items():
        check_truth(before.get(stream, []), put[stream], true)


@pytest.mark.parametrize(("engine", "name"), BEGUN)
def test_the_oracle_misses_whatever_is_left_out(engine: str, name: str) -> None:
    """Lose of each stream the newest word of a member who stays, and see that it is missed."""
    expected = read_json(engine)[name]
    for stream, after in lines(expected["after"]).items():
        found = [*lines(expected["before"]).get(stream, []), *after]
        here, _ = believe([data for data, *_ in found])
        for key in sorted(here)[:2]:
            without = [line for line in found if all(k != key for k, *_ in read(json.loads(line[0])))]
            assert len(without) < len(found)
            with pytest.raises(AssertionError):
                check_truth(without, [], here)


# --- what is no state of 0.1 -------------------------------------------------------------------------------------


def publish(stage: Stage) -> None:
    stage.publish(2, small_delivery("resync"))


def run(stage: Stage) -> None:
    stage.fill({("a", "u1"): "Bern"})
    stage.run(2, source=stage.source(many=True))


def run_and_publish(stage: Stage) -> None:
    run(stage)
    publish(stage)


def ask_for_members(stage: Stage) -> None:
    list(read_members(stage.ledger(), day(1)))


def ask_for_user(stage: Stage) -> None:
    find_user(stage.ledger(), "u4")


ALL = (publish, run, ask_for_members, ask_for_user)
OF_A_DELIVERY = (publish, run, ask_for_user)
STRANGE: Mapping[str, tuple[str, str, str, Sequence[Callable[[Stage], None]]]] = {
    "an event of the sync that nobody knows": ("", "invented", "{}", ALL),
    "an event of a delivery that nobody knows": ("delivery", "invented", "{}", ALL),
    "a detail that is no JSON": ("", "sealed", "{", ALL),
    "a change set without a table": ("", "change_set", '{"version": 2, "rows": 1}', ALL),
    "a base without a table": ("", "base", '{"version": 2}', ALL),
    "dropped tables under another name": ("", "dropped", '{"names": ["a"]}', ALL),
    "an attachment that does not say how": ("delivery", "attached", '{"version": 2}', OF_A_DELIVERY),
    "a detail that is a list": ("delivery", "sending", "[2]", OF_A_DELIVERY),
}
"""A row that this version does not write: its log, its event, its detail, and who has to refuse it."""


def put_strange(stage: Stage, log: str, event: str, detail: str, number: int = 0) -> None:
    log = small_delivery("resync").log if log else ""
    append_raw(stage, stage.ledger().sync_id, log, event, detail, day(number))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("row", STRANGE)
def test_a_row_that_nobody_understands_is_an_error_and_never_nothing(
    open_story: Open, engine: str, row: str
) -> None:
    log, event, detail, asking = STRANGE[row]
    stage = open_story(engine, "resync")
    put_strange(stage, log, event, detail)
    with small():
        for ask in asking:
            with pytest.raises(LedgerUnreadable):
                ask(stage)
    assert not any(lines_of(stage).values()), "nothing was sent"


EDGE = '"table": "changes_x", "previous_as_of": "2026-01-02T00:00:00Z", "rows": 1, "slice_rows": 7, "counts": {}'
LATE: Mapping[str, tuple[str, str, str, Callable[[Stage], None]]] = {
    "a change set without a layout": ("", "change_set", f"{{{EDGE}}}", publish),
    "a layout of another version": ("", "change_set", f'{{{EDGE}, "layout": {{"version": 2}}}}', publish),
    "a beginning that says nothing": ("delivery", "sending", "{}", run_and_publish),
    "a rejects table without a name": ("delivery", "rejected", '{"rows": 3}', run_and_publish),
    "a closing that names no audience": ("", "closed", '{"version": 2}', run),
}
"""The same of fields that version 0.1 looked at no sooner than it needed them; some it never missed."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("row", LATE)
def test_a_row_is_understood_whole_or_not_at_all(open_story: Open, engine: str, row: str) -> None:
    log, event, detail, ask = LATE[row]
    stage = open_story(engine, "resync")
    put_strange(stage, log, event, detail, 2)
    with small(), pytest.raises(LedgerUnreadable):
        ask(stage)


# --- the folder itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_state_holds_every_event_on_every_engine(engine: str) -> None:
    if engine == "files":
        rows = (path.read_text(encoding="utf-8") for path in (GOLDEN / engine).rglob("*.json"))
        found = {json.loads(line)[3] for text in rows for line in text.splitlines()}
    else:
        text = "".join(path.read_text(encoding="utf-8") for path in (GOLDEN / engine).glob("*.sql"))
        found = {event for event in EVENTS if f", '{event}', '2026-" in text}
    assert found == set(EVENTS)


def test_the_folder_is_as_version_0_1_has_written_it() -> None:
    found = hashlib.sha256()
    for path in sorted(GOLDEN.rglob("*")):
        if path.is_file() and path.name != "README.md":
            found.update(f"{path.relative_to(GOLDEN).as_posix()}\n".encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
    assert found.hexdigest() == DIGEST
