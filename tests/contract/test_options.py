"""Options that name what is not there are refused before anything is opened: no row, no table, no record.

That every option of every format is judged, ``tests/unit/formats/test_option_names.py`` has.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.core.changes import counts as counts_module
from airflow_kinesis_audience.core.model.events import EventSource
from airflow_kinesis_audience.core.outbox.deletion import announce_deletion, close
from airflow_kinesis_audience.core.outbox.event_forwarding import forward
from airflow_kinesis_audience.core.outbox.resync import resync
from airflow_kinesis_audience.core.readers.partitions import Part
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.transform import load_transform
from airflow_kinesis_audience.formats.transformed import TransformedRenderer
from tests.warehouses import (
    People,
    Stream,
    day,
    fresh_schema,
    list_tables,
    open_outbox,
    read_entries,
    small_delivery,
)

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.hooks.warehouses.dbapi import SqlWarehouse


def state_of(people: People) -> tuple[Any, ...]:
    return [e.sequence for e in read_entries(people.ledger())], people.tables()


def refusal(people: People, message_format: str, options: dict[str, Any], number: int = 0, **changed: Any) -> str:
    """Publish with options; gives why that was refused, once nothing was opened and nothing sent."""
    before, stream = state_of(people), Stream()
    how = {n: changed.pop(n) for n in ("on_first_run", "resend") if n in changed}
    with pytest.raises(ValueError) as refused:  # noqa: PT011, PT012
        delivery = small_delivery(message_format=message_format, options=options, **changed)
        open_outbox(people.ledger(), stream, delivery).drain(day(number), **how)
    assert state_of(people) == before
    assert stream.puts == []
    return str(refused.value)


def publish(people: People, message_format: str, options: dict[str, Any], number: int = 0, **changed: Any) -> str:
    """Publish with options; gives all that was sent, as text."""
    stream = Stream()
    delivery = small_delivery(message_format=message_format, options=options, **changed)
    open_outbox(people.ledger(), stream, delivery).drain(day(number))
    return b"\n".join(stream.messages).decode()


@pytest.fixture
def people(warehouse: SqlWarehouse) -> People:
    people = People(warehouse)
    people.put("u1", email="ada@example.com", city="Bern")
    people.run(0)
    return people


@pytest.fixture
def many(warehouse: SqlWarehouse) -> People:
    people = People(warehouse, many=True)
    for audience in ("a", "b", "c"):
        people.put(f"{audience}1", audience=audience, title=audience.upper(), email=f"{audience}@example.com")
    people.run(0)
    return people


# --- the options of each format ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message_format", "options", "sentence"),
    [
        ("amplitude_cohort", {"user_properties": ["town"]}, "the mapped properties are city"),
        ("mparticle_audience", {"identities_to_exclude": ["Emial"]}, "names 'Emial'; .* CustomerId, Email, "),
        ("mparticle_audience", {"identity_keys": {"GAIDs": "x"}}, "names 'GAIDs'; .* GoogleAdvertisingIdentifier"),
        ("mparticle_audience", {"identity_keys": {"GAID": "a", "gaid": "b"}}, "two keys for .*'GoogleAdv"),
        ("mparticle_audience", {"external_names": {"vip": "V"}}, "names 'vip', .*; it has 'vips'. "),
        ("mparticle_audience", {"user_id_as": "Email Address"}, "set user_id_as"),
        (
            "adobe_profile",
            {"audiences": ["vip"]},
            "names 'vip', .*; it has 'vips'. .* on_unknown_audience=\"wait\"",
        ),
        ("adobe_profile", {"audiences": []}, "audiences is empty, so nothing would be exported"),
        ("adobe_profile", {"attributes": ["town"]}, "the mapped properties are city"),
        ("adobe_profile", {"consent": "agrees"}, "consent names 'agrees'; the mapped properties are city"),
        ("adobe_profile", {"namespaces": {"Emial": "x"}}, "the mapped identity types are Email"),
        ("mparticle_events", {"exclude": ["user_attributes.town"]}, "are user_attributes.city, user_identities, "),
    ],
)
def test_the_refusal_names_the_candidates(
    people: People, message_format: str, options: dict[str, Any], sentence: str
) -> None:
    assert re.search(sentence, refusal(people, message_format, options))


@pytest.mark.parametrize("how", [{"part": Part(1, 4)}, {"on_first_run": "baseline"}])
def test_a_part_and_a_baseline_are_refused_as_well(people: People, how: dict[str, Any]) -> None:
    assert "Emial" in refusal(people, "mparticle_audience", {"identities_to_exclude": ["Emial"]}, **how)


def test_what_is_delivered_is_not_judged_again_unless_it_is_sent_again(people: People) -> None:
    publish(people, "mparticle_audience", {})
    assert publish(people, "mparticle_audience", {"identities_to_exclude": ["Emial"]}) == ""
    assert "Emial" in refusal(people, "mparticle_audience", {"identities_to_exclude": ["Emial"]}, resend=True)


# --- audiences ---------------------------------------------------------------------------------------------------


def test_a_typo_among_the_audiences_is_refused_and_one_that_comes_later_can_be_waited_for(many: People) -> None:
    options = {"audiences": ["a", "d"]}
    sentence = refusal(many, "adobe_profile", options)
    assert "audiences in format_options names 'd'" in sentence
    assert "it has 'a', 'b', 'c'" in sentence
    assert '"a1"' in publish(many, "adobe_profile", options, on_unknown_audience="wait")
    many.put("d1", audience="d", title="D")
    many.run(1)
    assert '"d1"' in publish(many, "adobe_profile", options, 1)


def test_an_audience_that_is_over_is_known_for_ever(many: People, monkeypatch: pytest.MonkeyPatch) -> None:
    many.take("c1", audience="c")
    many.run(1)
    many.run(2)
    many.run(3)
    assert '"a1"' in publish(many, "adobe_profile", {"audiences": ["a", "c"]}, 3)


@pytest.mark.parametrize("gone", [False, True])
def test_of_many_audiences_each_is_known_although_the_ledger_does_not_count_them(
    warehouse: SqlWarehouse, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr(counts_module, "FEW_AUDIENCES", 1)
    people = People(warehouse, many=True)
    for audience in ("a", "b", "c"):
        people.put(f"{audience}1", audience=audience)
    people.run(0)
    if gone:
        people.take("c1", audience="c")
        people.run(1)
        people.run(2)
    number = 2 if gone else 0
    assert "names 'd'" in refusal(people, "adobe_profile", {"audiences": ["c", "d"]}, number)
    assert '"a1"' in publish(people, "adobe_profile", {"audiences": ["a", "c"]}, number)


def test_another_word_for_what_to_do_is_refused() -> None:
    with pytest.raises(ValueError, match="on_unknown_audience is 'skip'; expected fail or wait"):
        small_delivery(on_unknown_audience="skip")


# --- resync, deletion, events ------------------------------------------------------------------------------------

TYPO = {"identities_to_exclude": ["Emial"]}


def test_a_resync_is_refused_before_it_is_begun(people: People) -> None:
    publish(people, "mparticle_audience", {})
    before, stream = state_of(people), Stream()
    delivery = small_delivery(message_format="mparticle_audience", options=TYPO)
    with pytest.raises(ValueError, match="names 'Emial'"):
        resync(open_outbox(people.ledger(), stream, replace(delivery, resync="r")), delivery)
    assert (state_of(people), stream.puts) == (before, [])


def test_a_deletion_is_refused_before_the_sync_is_closed(people: People) -> None:
    publish(people, "mparticle_audience", {})
    before, stream = state_of(people), Stream()
    delivery = small_delivery(message_format="mparticle_audience", options=TYPO)
    with pytest.raises(ValueError, match="names 'Emial'"):
        close(people.ledger(), day(1), exits=True, delivery=delivery)
    assert (state_of(people), stream.puts) == (before, [])
    right = small_delivery(message_format="mparticle_audience", options={})
    close(people.ledger(), day(1), exits=True, delivery=right)
    announce_deletion(open_outbox(people.ledger(), stream, right))
    assert stream.puts


@pytest.mark.parametrize(
    ("changed", "options", "sentence"),
    [
        ({}, {"exclude": ["data.event_nam"]}, "exclude names 'data.event_nam'; .* data.event_name"),
        ({}, {"exclude": ["event_type"]}, "exclude names 'event_type'"),
        ({"fields": {"name": "dta.event_name"}}, {}, "'dta.event_name' is not a place in a batch"),
        (
            {"identities": {"email": "Emial"}},
            {},
            "identity type 'Emial' is unknown to mParticle; expected one of",
        ),
    ],
)
def test_events_are_refused_before_their_state_is_made(
    warehouse: SqlWarehouse, changed: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    schema, stream = fresh_schema(), Stream()
    came = "CAST('2026-01-01 12:00:00+00' AS TIMESTAMPTZ) AS came"
    query = f"SELECT 'e' AS id, 'u' AS uid, 'x' AS email, 'n' AS name, {came}"
    source = EventSource(
        **{
            "query": query,
            "event_id": "id",
            "arrived_at": "came",
            "user_id": "uid",
            "identities": {"email": "Email"},
            "fields": {"name": "data.event_name"},
            **changed,
        }
    )
    delivery = small_delivery(message_format="mparticle_events", options=options)
    outbox = open_outbox(Ledger(warehouse, schema, "events"), stream, delivery)
    with pytest.raises(ValueError, match=sentence):
        forward(outbox, source, day(0), day(1))
    assert list_tables(warehouse, schema) == set()
    assert stream.puts == []


# --- what was mapped, is, and will be ----------------------------------------------------------------------------


def with_loyalty(people: People) -> Source:
    return replace(people.source, identities={"email": "Email", "title": "loyalty"})


def test_what_is_mapped_anew_may_be_left_out_while_older_change_sets_wait(people: People) -> None:
    publish(people, "mparticle_audience", {})
    people.put("u2", email="bob@example.com")
    people.run(1)
    people.put("u3", email="cyd@example.com", title="gold")
    people.run(2, source=with_loyalty(people), guards=replace(people.sync().guards, on_schema_change="update"))
    sent = publish(people, "mparticle_audience", {"identities_to_exclude": ["Loyalty"]}, 2)
    assert "bob@example.com" in sent
    assert "gold" not in sent


def test_options_that_do_not_fit_a_backlog_name_the_change_set_that_waits(people: People) -> None:
    publish(people, "amplitude_cohort", {})
    people.put("u2")
    people.run(1)
    people.put("u3", title="gold")
    plan = replace(people.source, properties={"title": "plan"})
    people.run(2, source=plan, guards=replace(people.sync().guards, on_schema_change="update"))
    newer = {"user_properties": ["plan"]}
    waits = (
        r"properties are city.*of the change set as of 2026-01-02T.*has not received yet.*Publish as of that "
        "instant"
    )
    assert re.search(waits, refusal(people, "amplitude_cohort", newer, 2))
    assert "change set as of" not in refusal(
        people,
        "amplitude_cohort",
        {"user_properties": ["plam"]},
        2,
        on_first_run="enter_all",
        connection="another",
    )
    assert '"u2"' in publish(people, "amplitude_cohort", {"user_properties": ["city"]}, 1)
    sent = publish(people, "amplitude_cohort", newer, 2)
    assert '"u3"' in sent


def test_what_was_mapped_once_may_still_be_left_out(warehouse: SqlWarehouse) -> None:
    people = People(warehouse)
    people.put("u1", email="ada@example.com", title="gold")
    update = replace(people.sync().guards, on_schema_change="update")
    people.run(0, source=with_loyalty(people))
    options = {"identities_to_exclude": ["loyalty"]}
    publish(people, "mparticle_audience", options)
    for number in (1, 2, 3):
        people.put(f"v{number}", email=f"{number}@example.com")
        people.run(number, guards=update)
        assert f"{number}@example.com" in publish(people, "mparticle_audience", options, number)


def only_the_city(frame: Any) -> Any:
    """A transform that renames and leaves out."""
    return frame[["audience_id", "user_id"]].assign(town=frame["city"])


def test_of_a_transform_the_names_that_it_gives_and_was_given_count(people: People) -> None:
    def delivery(message_format: str, options: dict[str, Any]) -> Any:
        renderer = TransformedRenderer(
            load_renderer(message_format, options), load_transform(f"{__name__}.only_the_city")
        )
        return small_delivery(message_format=message_format, options=options, renderer=renderer)

    stream = Stream()
    open_outbox(people.ledger(), stream, delivery("amplitude_cohort", {"user_properties": ["town"]})).drain(day(0))
    assert b'"town":"Bern"' in stream.messages[0]
    stream = Stream()
    given_before = {"identities_to_exclude": ["Email"]}
    open_outbox(people.ledger(), stream, delivery("mparticle_audience", given_before)).drain(day(0))
    assert b"u1" in stream.messages[0]
    stream, wrong = Stream(), delivery("mparticle_audience", {"identities_to_exclude": ["Emial"]})
    with pytest.raises(ValueError, match="names 'Emial'"):
        open_outbox(people.ledger(), stream, replace(wrong, connection="another")).drain(day(0))
    assert stream.puts == []
