"""The conformance kit fails what is wrong, says why with few messages, and passes what is right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from airflow_kinesis_audience.conformance import FORMATS, check_consumer
from airflow_kinesis_audience.conformance.arrivals import ARRIVALS
from airflow_kinesis_audience.conformance.batches import StepChanges
from airflow_kinesis_audience.conformance.expected import find_expected
from airflow_kinesis_audience.conformance.histories import Change, draw_history, find_changes
from airflow_kinesis_audience.conformance.names import Names, properties_of
from airflow_kinesis_audience.conformance.writing import write_history
from airflow_kinesis_audience.consumer import AudienceConsumer, Statement, read_message
from airflow_kinesis_audience.core.model.messages import Envelope, Lifecycle, Notice
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.schemas import load_schema
from tests.changes import Row, build_changes

SEED = 20_260_401
Consume = Callable[[Sequence[bytes]], Mapping[str, Any]]


def ours(messages: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """Apply messages by the reference; give members with their values."""
    consumer = AudienceConsumer()
    for message in messages:
        consumer.apply(message)
    return {
        a: {
            u: {"properties": consumer.properties(a, u), "identities": consumer.identities(a, u)}
            for u in consumer.members(a)
        }
        for a in consumer.audiences()
    }


@pytest.mark.parametrize("message_format", FORMATS)
def test_ours_passes(message_format: str) -> None:
    report = check_consumer(ours, message_format, histories=200)
    assert report.passed, report
    assert dict(report.histories) == dict.fromkeys(ARRIVALS, 40)


# Consumers that are wrong in one way each.


Key = tuple[str, str]


def statements_of(messages: Sequence[bytes]) -> list[Statement]:
    return [s for message in messages for s in read_message(message).statements]


def finish(messages: Sequence[bytes], kept: Mapping[Key, Statement | None]) -> dict[str, set[str]]:
    """Give the members of what a consumer keeps, without what a deletion or a whole profile voids."""
    readings = [read_message(message) for message in messages]
    deleted = [(r.notice.audience_id, r.notice.time) for r in readings if r.notice and r.notice.event == "deleted"]
    whole = [r.whole for r in readings if r.whole]
    found: dict[str, set[str]] = {}
    for (audience, user), s in kept.items():
        voids = any(a == audience and s and time >= s.time for a, time in deleted)
        voids |= any(u == user and s and time > s.time for u, time in whole)
        if s and s.member and not voids:
            found.setdefault(audience, set()).add(user)
    return found


def keep_by(messages: Sequence[bytes], wins: Callable[[Statement, Statement], bool]) -> dict[Key, Statement]:
    """Keep one statement per user and audience: a later one if it ``wins`` over what is kept."""
    kept: dict[Key, Statement] = {}
    for s in statements_of(messages):
        known = kept.get((s.audience_id, s.user_id))
        if known is None or wins(s, known):
            kept[s.audience_id, s.user_id] = s
    return kept


def ignores_the_time(messages: Sequence[bytes]) -> dict[str, set[str]]:
    return finish(messages, keep_by(messages, lambda new, known: True))


def counts_repeated_messages(messages: Sequence[bytes]) -> dict[str, set[str]]:
    """A counter per member: one more for each entry and one less for each exit, whatever was seen before."""
    counts: Counter[Key] = Counter()
    for s in statements_of(messages):
        counts[s.audience_id, s.user_id] += 1 if s.member else -1
    newest = keep_by(messages, lambda new, known: new.beats(known))
    return finish(messages, {key: replace(s, member=counts[key] > 0) for key, s in newest.items()})


def takes_an_exit_for_final(messages: Sequence[bytes]) -> dict[str, set[str]]:
    return finish(messages, keep_by(messages, lambda new, known: known.member and new.beats(known)))


def forgets_exits(messages: Sequence[bytes]) -> dict[str, set[str]]:
    """Deletes the row of who left, so that an older entry that arrives later finds nothing newer than itself."""
    kept: dict[Key, Statement | None] = {}
    for s in statements_of(messages):
        known = kept.get((s.audience_id, s.user_id))
        if known is None or s.beats(known):
            kept[s.audience_id, s.user_id] = s if s.member else None
    return finish(messages, kept)


def ignores_deletions_and_whole_profiles(messages: Sequence[bytes]) -> dict[str, set[str]]:
    return finish([], keep_by(messages, lambda new, known: new.beats(known)))


def folds_case(messages: Sequence[bytes]) -> dict[str, set[str]]:
    return {a: {u.lower() for u in members} for a, members in ours(messages).items()}


def keeps_first_values(messages: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    first: dict[Key, Statement] = {}
    for s in statements_of(messages):
        if s.member:
            first.setdefault((s.audience_id, s.user_id), s)
    return {
        a: {u: {"properties": first[a, u].properties, "identities": first[a, u].identities} for u in members}
        for a, members in ours(messages).items()
    }


def lets_an_exit_win_a_tie(messages: Sequence[bytes]) -> dict[str, set[str]]:
    newest = keep_by(messages, lambda s, known: (s.time, not s.member) > (known.time, not known.member))
    return finish(messages, newest)


WRONG: list[tuple[Consume, tuple[str, ...], int, str]] = [
    (ignores_the_time, tuple(FORMATS), 2, "older, it changes nothing"),
    (counts_repeated_messages, tuple(FORMATS), 3, "message"),
    (takes_an_exit_for_final, tuple(FORMATS), 2, "it must have one"),
    # Whoever keeps the instant of a whole profile needs no row of an exit.
    (
        forgets_exits,
        tuple(f for f in FORMATS if f != "adobe_profile"),
        2,
        "it must have none, because message 1 is an exit",
    ),
    (ignores_deletions_and_whole_profiles, tuple(FORMATS), 2, "it voids all before it"),
    (folds_case, tuple(FORMATS), 1, "it must have"),
    (keeps_first_values, ("amplitude_cohort", "mparticle_audience", "adobe_profile"), 2, "it must have {"),
    (lets_an_exit_win_a_tie, ("mparticle_audience",), 2, "does not win over an entry"),
]


@pytest.mark.parametrize(
    ("consume", "message_format", "messages", "why"),
    [(c, f, n, why) for c, formats, n, why in WRONG for f in formats],
    ids=[f"{c.__name__}-{f}" for c, formats, _, _ in WRONG for f in formats],
)
def test_a_wrong_consumer_fails_with_few_messages_and_a_reason(
    consume: Consume, message_format: str, messages: int, why: str
) -> None:
    report = check_consumer(consume, message_format, seed=SEED)
    assert not report.passed
    assert report.failure is not None
    assert 1 <= len(report.failure.messages) <= messages, report
    assert any(why in difference for difference in report.failure.differences), report
    assert f"seed {SEED}" in str(report)
    # The small history is a failure by itself, of this consumer and not of ours.
    found, right = (c(report.failure.messages) for c in (consume, ours))
    if consume is not keeps_first_values:
        right = {audience: set(members) for audience, members in right.items() if members}
        found = {audience: members for audience, members in found.items() if members}
    assert found != right


def test_messages_in_order_do_not_show_a_consumer_that_ignores_the_time() -> None:
    report = check_consumer(ignores_the_time, "mparticle_audience", seed=SEED)
    assert report.failed["in order"] < report.failed["late"]
    assert report.failed["late"] > report.histories["late"] // 2


def test_a_seed_gives_the_same_histories_with_new_ids() -> None:
    got: list[list[bytes]] = [[], []]
    for run in got:

        def consume(messages: Sequence[bytes], run: list[bytes] = run) -> dict[str, Any]:
            run += messages
            return ours(messages)

        assert check_consumer(consume, "amplitude_cohort", seed=3, histories=10).passed
    first, second = ([json.loads(m) for m in run] for run in got)
    same = [(m["computed_time"], m["in_cohort"], len(m["users"])) for m in first]
    assert same == [(m["computed_time"], m["in_cohort"], len(m["users"])) for m in second]
    assert not {m["message_id"] for m in first} & {m["message_id"] for m in second}
    assert not {m["cohort_id"] for m in first} & {m["cohort_id"] for m in second}


def test_a_consumer_that_raises_fails_and_one_that_cannot_be_reached_says_nothing() -> None:
    def raises(messages: Sequence[bytes]) -> dict[str, Any]:
        raise LookupError("no table")

    report = check_consumer(raises, "adobe_profile", histories=2)
    assert report.failure is not None
    assert report.failure.differences == ["the consumer raised LookupError: no table"]

    def away(messages: Sequence[bytes]) -> dict[str, Any]:
        raise ConnectionError("no host")

    with pytest.raises(ConnectionError, match="no host"):
        check_consumer(away, "adobe_profile", histories=2)


def test_a_consumer_that_fails_only_sometimes_is_reported_as_such() -> None:
    calls = []

    def fails_at_first(messages: Sequence[bytes]) -> Mapping[str, Any]:
        calls.append(messages)
        return {} if len(calls) == 1 else ours(messages)

    report = check_consumer(fails_at_first, "amplitude_cohort", histories=5, seed=SEED)
    assert (report.passed, len(calls)) == (False, 6)
    assert "had the right members when it got the same history again" in str(report)


def test_a_consumer_that_returns_no_members_is_refused_in_words() -> None:
    def texts(messages: Sequence[bytes]) -> Mapping[str, Any]:
        return dict.fromkeys(ours(messages), "u-1")

    report = check_consumer(texts, "amplitude_cohort", histories=1)
    assert report.failure is not None
    assert "the members of an audience are a str; expected user ids" in report.failure.differences[0]


@pytest.mark.parametrize(
    ("arguments", "says"), [(("x",), "expected one of amplitude"), (("adobe_profile", 0), "1 or")]
)
def test_an_invalid_argument_is_an_error(arguments: tuple[Any, ...], says: str) -> None:
    message_format, *histories = arguments
    with pytest.raises(ValueError, match=says):
        check_consumer(ours, message_format, **({"histories": histories[0]} if histories else {}))


# The kit itself: what it expects, and what it sends.


@pytest.mark.parametrize("message_format", FORMATS)
def test_the_rules_end_with_the_last_step_of_any_history(message_format: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(300):
        chance, names = Random(seed), Names(7)
        history = draw_history(chance, deletes_all=message_format == "adobe_profile")
        sent = write_history(history, message_format, names)
        last = history.steps[-1]
        members = {(names.audience_id(p.audience), names.user_id(p.user)) for p in last.members}
        partitions = [one.partition for one in sent]
        for arrive in ARRIVALS.values():
            order = arrive(chance, partitions)
            assert set(order) == set(range(len(sent)))
            expected = find_expected(sent[n] for n in order)
            assert set(expected) == members, seed
        if message_format in ("amplitude_cohort", "adobe_profile"):
            for place in last.members:
                key = (names.audience_id(place.audience), names.user_id(place.user))
                assert expected[key]["properties"] == properties_of(last.versions[place.user])
        seen.update(
            {"resync": any(s.resync for s in history.steps), "deletion": any(s.deleted for s in history.steps)}
        )
    assert min(seen.values()) > 50


def rendered(message_format: str, history: Any, names: Names, **options: Any) -> list[dict[str, Any]]:
    """Render the change sets of a history by the package's own format."""
    found = []
    for number, (before, after) in enumerate(history.pairs()):
        changes = [] if after.resync or (after.deleted and not after.exits) else find_changes(before, after)
        as_of = datetime.fromtimestamp(after.time, UTC)
        rows = build_changes(
            (row_of(names, c) for c in changes), as_of=as_of, audience_names=audience_names(names)
        )
        envelope = Envelope(batch_id=names.uuid(f"step {number}"), partitions=4, message_bytes=100_000)
        found += [json.loads(m.document) for m in load_renderer(message_format, options)(rows, envelope)]
    return found


def audience_names(names: Names) -> dict[str, str]:
    return {names.audience_id(n): names.audience_name(n) for n in range(2)}


def row_of(names: Names, change: Change) -> Row:
    def side(version: int | None) -> tuple[dict[str, Any], dict[str, str]]:
        if version is None:
            return {}, {}
        return properties_of(version), {"Email": names.email(change.place.user, version)}

    (new, new_identities), (old, old_identities) = side(change.new), side(change.old)
    action = "entered" if change.old is None else "exited" if change.new is None else "updated"
    both = "both" if new_identities != old_identities else "properties"
    return Row(
        names.audience_id(change.place.audience),
        action,
        names.user_id(change.place.user),
        new=new,
        old=old,
        updated=both if action == "updated" else None,
        new_identities=new_identities,
        old_identities=old_identities,
    )


def one_by_one(document: dict[str, Any]) -> Iterator[str]:
    """Give what a document says of each user, without ids of messages and without how users are grouped."""
    document = {n: v for n, v in document.items() if n not in ("message_id", "MessageId", *OF_EVENTS)}
    for event in document.get("events", ()):
        for name in ("event_id", "source_message_id"):
            event["data"].pop(name)
    for identity in document.get("user_identities", ()):
        identity["identity_type"] = identity["identity_type"].lower()
    for user in document.pop("users", [None]):
        yield json.dumps({**document, "user": user}, sort_keys=True)


OF_EVENTS = ("batch_id", "source_request_id")


@pytest.mark.parametrize(
    ("message_format", "options"),
    [
        ("amplitude_cohort", {"user_properties": True}),
        ("mparticle_audience", {"message_ids": True}),
        ("mparticle_events", {}),
    ],
)
def test_the_kit_sends_what_the_formats_render(message_format: str, options: dict[str, Any]) -> None:
    for seed in range(40):
        history, names = draw_history(Random(seed), deletes_all=False), Names(7)
        resyncs = {names.batch_id(n) for n, (_, after) in enumerate(history.pairs()) if after.resync}
        expected = Counter(
            text for d in rendered(message_format, history, names, **options) for text in one_by_one(d)
        )
        sent = [s for s in write_history(history, message_format, names) if s.facts]
        found = Counter(
            text
            for s in sent
            if s.message_id.partition("::")[0] not in resyncs
            for text in one_by_one(json.loads(s.data))
        )
        if message_format != "mparticle_events" or not resyncs:  # whose ids do not begin with the batch's
            assert found == expected, seed


@pytest.mark.parametrize("message_format", FORMATS)
@pytest.mark.parametrize("kind", Lifecycle)
def test_notices_are_those_of_the_formats(message_format: str, kind: Lifecycle) -> None:
    names, at = Names(7), datetime(2026, 4, 1, tzinfo=UTC)
    counts = {} if kind is Lifecycle.DELETED else {"members": 3, "exits": 2}
    notice = Notice(
        kind=kind,
        number=1,
        time=at,
        audience_id=names.audience_id(1),
        audience_name=names.audience_name(1),
        **counts,
    )
    options = {"message_ids": True} if message_format in ("mparticle_audience", "adobe_profile") else {}
    envelope = Envelope(batch_id=names.uuid("step 5"), partitions=4, message_bytes=100_000)
    expected = load_renderer(message_format, options).render_notice(notice, envelope)  # type: ignore[attr-defined]
    batch = StepChanges(
        names=names,
        number=5,
        time=int(at.timestamp()),
        changes=(),
        before=(),
        after=(),
        members=frozenset(),
        left={},
    )
    sent = FORMATS[message_format][1](batch, 1, kind.value, 3, 2)
    assert [*one_by_one(json.loads(sent.data))] == [*one_by_one(json.loads(expected.document))]
    assert (sent.deleted is not None) == (kind is Lifecycle.DELETED)


@pytest.mark.parametrize("message_format", FORMATS)
def test_every_message_fits_the_schema_of_its_format(message_format: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(load_schema(message_format))
    for seed in range(30):
        history = draw_history(Random(seed), deletes_all=message_format == "adobe_profile")
        for sent in write_history(history, message_format, Names(482_150_000_001)):
            validator.validate(json.loads(sent.data))
