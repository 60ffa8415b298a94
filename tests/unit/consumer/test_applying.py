"""Every record is applied or set aside, and what fails for another reason is never passed over."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.consumer import Reading, SetAside, Unfit, apply_records, persist
from tests.docs.messages import cohort_message, encode, profile_messages


class Store:
    """Writes all or nothing, and refuses users whose id begins with ``bad``, and values that hold ``bad``."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bool]] = []
        self.notices: list[str] = []
        self.wholes: list[str] = []
        self.aside: list[SetAside] = []

    def write(self, readings: Sequence[Reading]) -> None:
        statements = [s for r in readings for s in r.statements]
        if any(s.user_id.startswith("bad") or "bad" in str(s.properties) for s in statements):
            raise Unfit("bad")
        self.written += [(s.user_id, s.member) for s in statements]
        self.notices += [r.notice.event for r in readings if r.notice]
        self.wholes += [r.whole[0] for r in readings if r.whole]

    def apply(self, *messages: bytes) -> int:
        records = [(str(n), m) for n, m in enumerate(messages)]
        return apply_records(records, write=self.write, set_aside=self.aside.append)


def test_of_a_message_about_many_users_only_what_does_not_fit_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    mixed = encode(cohort_message("m2", users=["u-1", "bad-secret", "u-2", ("u-3", {"x": "bad"})]))
    assert store.apply(encode(cohort_message("m1")), mixed, b"secret", encode(cohort_message("m3"))) == 2
    assert [u for u, _ in store.written] == ["u-1", "u-1", "u-2", "u-1"]
    unreadable, refused = store.aside
    assert (refused.where, refused.message_id, refused.parts, refused.reason) == ("1", "m2", (1, 3), "bad")
    assert refused.data == mixed
    assert (unreadable.where, unreadable.message_id, unreadable.parts) == ("2", "", ())
    assert "secret" not in caplog.text
    assert len(caplog.records) == 2


def test_a_message_that_came_alone_is_not_tried_twice_as_a_whole() -> None:
    store, tried = Store(), []

    def write(readings: Sequence[Reading]) -> None:
        tried.append([len(r.statements) for r in readings])
        store.write(readings)

    records = [("0", encode(cohort_message(users=["u-1", "bad", "u-2"])))]
    assert apply_records(records, write=write, set_aside=store.aside.append) == 1
    assert tried == [[3], [1], [1], [1]]


def test_an_exit_is_applied_without_the_values_that_do_not_fit() -> None:
    store = Store()
    users = [("u-1", {"x": "bad"}), "bad-2"]
    assert store.apply(encode(cohort_message(member=False, users=users))) == 1
    assert store.written == [("u-1", False)]
    assert store.aside[0].parts == (0, 1)


def test_a_document_counts_as_the_whole_of_its_user_only_if_all_of_it_was_applied() -> None:
    import random

    [good, other, *_] = profile_messages(random.Random(1))
    store = Store()
    assert store.apply(encode(good), encode({**other, "city": "bad"})) == 1
    assert store.wholes == [good["identityMap"]["crmid"][0]["id"]]


def test_a_notice_beside_what_does_not_fit_is_applied() -> None:
    store = Store()
    deleted = cohort_message(users=(), lifecycle={"event": "deleted"})
    assert store.apply(encode(cohort_message(users=["bad"])), encode(deleted)) == 1
    assert store.notices == ["deleted"]


def test_what_is_kept_of_a_message_is_ascii_however_strange_it_is() -> None:
    store = Store()
    store.apply(encode(cohort_message("m\0\ud800ä", users=["bad"])))
    assert store.aside[0].message_id == "m\\x00\\ud800\\xe4"


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_any_other_error_of_the_store_is_raised(refused: int) -> None:
    store, calls = Store(), 0

    def write(readings: Sequence[Reading]) -> None:
        nonlocal calls
        calls += 1
        if calls > refused:
            raise OSError("no space left")
        store.write(readings)

    records = [("0", encode(cohort_message(users=["u-1", "bad"])))]
    with pytest.raises(OSError, match="no space"):
        apply_records(records, write=write, set_aside=store.aside.append)
    assert store.aside == []


def test_where_setting_aside_fails_nothing_counts_as_done() -> None:
    def fail(one: SetAside) -> None:
        raise OSError("not now")

    with pytest.raises(OSError, match="not now"):
        apply_records([("0", b"x")], write=Store().write, set_aside=fail)


@given(st.lists(st.lists(st.sampled_from(["u-1", "u-2", "bad-1", "bad-2"]), max_size=4), max_size=4))
def test_every_statement_is_applied_or_set_aside(sent: list[list[str]]) -> None:
    store = Store()
    messages = [encode(cohort_message(f"m{n}", users=users)) for n, users in enumerate(sent)]
    store.apply(*messages)
    applied = [u for u, _ in store.written]
    aside = [json.loads(one.data)["users"][p]["user_id"] for one in store.aside for p in one.parts]
    assert sorted(applied + aside) == sorted(u for users in sent for u in users)


class Failing:
    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error = times, error

    def __call__(self) -> None:
        self.left -= 1
        if self.left >= 0:
            raise self.error


def test_a_failure_is_tried_again_with_longer_pauses_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    persist(Failing(12, OSError("u-secret")), sleep=pauses.append)
    assert len(pauses) == 12
    assert pauses == sorted(pauses)
    assert max(pauses) == 30
    assert "failed with OSError" in caplog.text
    assert "secret" not in caplog.text


def test_it_gives_up_by_ending_the_process_with_the_kind_of_error_alone() -> None:
    pauses: list[float] = []
    with pytest.raises(SystemExit) as ended:
        persist(Failing(10**6, OSError("u-secret")), seconds=100, sleep=pauses.append)
    assert 100 <= sum(pauses) <= 130
    assert "OSError" in str(ended.value)
    assert "secret" not in str(ended.value)
    assert ended.value.__context__ is None


def test_what_succeeds_is_done_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    done: list[int] = []
    persist(lambda: done.append(1), sleep=pytest.fail)
    assert (done, caplog.text) == ([1], "")
