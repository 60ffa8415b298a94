"""Guards that know earlier runs, on every engine: what is usual of an audience, and the exits of a day."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_kinesis_audience.core.changes import usual
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.exceptions import GuardTripped
from tests.contract.test_state_model import Crowd, user
from tests.engines import ENGINES

Rows = list[dict[str, Any]]
RUNS = 9
"""So many teach here, so that a slow engine has not to run twenty."""


@pytest.fixture(params=list(ENGINES))
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    with ENGINES[request.param].open_place(request, tmp_path) as place:
        yield place


@pytest.fixture
def learns_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "MIN_RUNS", RUNS)


def people(number: int, audience: str) -> Rows:
    """Give a day's rows: 40 users; one leaves, one enters and ten move; one in eight has no city."""
    return [
        user(f"u{n:03}", audience, email="x@example.com", city=town(n, number))
        for n in range(100 + number, 140 + number)
    ]


def town(n: int, number: int) -> str | None:
    if n % 8 == 0:
        return None
    return f"Rome {number}" if n % 8 == 1 + number % 7 else "Bern"


def without(rows: Rows, condition: Callable[[Mapping[str, Any]], bool]) -> Rows:
    return [row for row in rows if not condition(row)]


ACCIDENTS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "part of a load is missing": (lambda rows: without(rows, lambda r: r["uid"][-1] in "357"), "would exit"),
    "user ids are cast": (
        lambda rows: [{**r, "uid": r["uid"].lstrip("u")} for r in rows[:16]] + rows[16:],
        "enter",
    ),
    "a join repeats rows": (lambda rows: rows + rows, "40 of 80 rows would be dropped, 50.0%"),
    "a column is gone": (
        lambda rows: [{**r, "email": None} for r in rows],
        "40 of 40 rows have no identity Email",
    ),
    "a column is partly gone": (
        lambda rows: [{**r, "city": None} if int(r["uid"][1:]) % 8 < 4 else r for r in rows],
        "20 of 40 rows have no property city, 50.0%; the 7 runs before had 12.5%",
    ),
    "a column is cast": (
        lambda rows: [{**r, "city": r["city"] and r["city"].upper()} for r in rows],
        "of 40 members would be updated; the last 9 runs had",
    ),
}


def test_what_is_not_usual_of_an_audience_is_stopped(place, learns_soon):
    crowd = Crowd(place, many=True, guards=Guards(usual=True, on_invalid_rows="drop"))
    for number in range(RUNS + 1):
        crowd.write(*people(number, "a"), *people(number, "b"))
        crowd.run(number)
    number = RUNS + 1
    right = people(number, "a")
    for accident, (happen, said) in ACCIDENTS.items():
        crowd.write(*right, *happen(people(number, "b")))
        with pytest.raises(GuardTripped) as stopped:
            pytest.fail(f"{accident} is not stopped: {crowd.run(number)}")
        assert all(s.startswith("audience 'b': ") for s in stopped.value.sentences), accident
        assert re.search(said, "; ".join(stopped.value.sentences)), (accident, stopped.value.sentences)
    crowd.write(*right, *people(number - 1, "b"))
    with pytest.raises(GuardTripped, match=r"no row has changed in 1 runs, for 1\.0 times .*; in the 9 runs"):
        crowd.run(number)
    crowd.write(*right, *people(number, "b"))
    found = crowd.run(number)
    assert found["audiences"]["b"] == {"entered": 1, "exited": 1, "updated": found["updated"] // 2, "members": 40}
    of = crowd.ledger.read().timeline.newest.detail.audiences["b"]
    assert (of.source_rows, of.dropped, dict(of.nulls)) == (40, 0, {"identity Email": 0, "property city": 5})


def test_an_audience_is_not_emptied_in_small_steps(place):
    hour = 1 / 24
    crowd = Crowd(place, guards=Guards(max_exit_ratio=None, max_exit_ratio_per_day=0.6))
    for number, left in enumerate([120, 70, 50]):
        crowd.write(*(user(f"u{n}") for n in range(left)))
        crowd.run(number * hour)
    crowd.write(*(user(f"u{n}") for n in range(40)))
    said = r"80 of 120 members would have exited within a day, 67% \(max_exit_ratio_per_day is 60%\)"
    with pytest.raises(GuardTripped, match=said):
        crowd.run(3 * hour)
    assert crowd.run(1 + 2.5 * hour)["exited"] == 10, "a day later"
