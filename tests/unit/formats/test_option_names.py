"""Every option of every format is judged by what is mapped and known, and the vendor's own words are known.

Which options there are is read from the formats themselves, so that a new one without a check fails here.
"""

from __future__ import annotations

import importlib
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_audience.core.model.events import Events
from airflow_kinesis_audience.core.model.identity_rules import AS_IT_IS
from airflow_kinesis_audience.core.model.messages import Envelope, derive_batch_id
from airflow_kinesis_audience.core.model.renderer import Mapped
from airflow_kinesis_audience.formats import FORMATS, load_renderer
from airflow_kinesis_audience.formats.mparticle.identity_types import IDENTITY_TYPES
from airflow_kinesis_audience.formats.option_names import MOST_NAMES, list_names
from tests.changes import Row, build_changes
from tests.warehouses import small_delivery

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAPPED = Mapped(
    identities={"Email": AS_IT_IS},
    properties=("city",),
    former_identities=("Email", "loyalty"),
    former_properties=("city", "plan"),
)
AUDIENCES = {"vips"}
FREE = {
    ("adobe_profile", "namespace"): "it is written into the documents",
    ("adobe_profile", "user_id_as"): "it is written into the documents",
    ("mparticle_events", "unique_id"): "it is written into the batches",
}
"""Options that take any text, and why."""


def options_of(message_format: str) -> list[str]:
    module, _, name = FORMATS[message_format].rpartition(".")
    return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)


EVERY_OPTION = [(f, option) for f in FORMATS for option in options_of(f)]
WRONG_NAMES = st.text("aZ0 ._-é🙂", min_size=1, max_size=12).map(lambda text: f"zq{text}") | st.sampled_from(
    [
        "Emial",
        "e mail!s",
        "city ",
        "City",
        "vip",
        "vips ",
        "data.event_nam",
        "devices",
        "events",
        "event_type",
    ]
)
FORMS = (
    lambda name: name,
    lambda name: [name],
    lambda name: ("zq", name),
    lambda name: {name},
    lambda name: {name: "other"},
)


def wrong_values() -> SearchStrategy[Any]:
    """Make values with a name that matches nothing, in every form in which an option may take one."""
    return st.builds(lambda form, name: form(name), st.sampled_from(FORMS), WRONG_NAMES)


def judge(message_format: str, options: dict[str, Any], mapped: Mapped = MAPPED) -> None:
    """Judge options as a publishing task does before it opens anything."""
    renderer = small_delivery(message_format=message_format, options=options).renderer
    renderer.check_options(mapped)
    for option, named in renderer.named_audiences().items():
        if set(named) - AUDIENCES:
            raise ValueError(f"{option} names no audience")


@pytest.mark.parametrize(("message_format", "option"), EVERY_OPTION)
@given(value=wrong_values())
def test_no_option_of_any_format_takes_a_name_that_matches_nothing(
    message_format: str, option: str, value: Any
) -> None:
    if (message_format, option) in FREE and isinstance(value, str):
        return
    with pytest.raises(ValueError, match=option):
        judge(message_format, {option: value})


@pytest.mark.parametrize("option", options_of("mparticle_events"))
@given(value=wrong_values())
def test_no_option_takes_one_where_events_are_sent(option: str, value: Any) -> None:
    if ("mparticle_events", option) in FREE and isinstance(value, str):
        return
    events = Mapped(identities={"Email": AS_IT_IS}, properties=("data.event_name", "event_type"), events=True)
    with pytest.raises(ValueError, match=option):
        judge("mparticle_events", {option: value}, events)


def test_what_takes_any_text_is_an_option() -> None:
    assert set(FREE) <= set(EVERY_OPTION)


@pytest.mark.parametrize(
    ("message_format", "options"),
    [
        ("amplitude_cohort", {"user_properties": ["city"]}),
        ("mparticle_audience", {"identities_to_exclude": ["e-mail", "Yahoo ID", "Loyalty"]}),
        ("mparticle_audience", {"identity_keys": {"IDFA": "x", "loyalty": "y"}, "external_names": {"vips": "V"}}),
        ("adobe_profile", {"audiences": ["vips"], "attributes": [], "namespaces": {"Email": "mail"}}),
        ("adobe_profile", {"consent": "city"}),
        ("mparticle_events", {"exclude": ["user_attributes.plan", "ip", "device_info", "user_identities"]}),
        ("mparticle_events", {"exclude": {"mpid", "user_attributes"}, "user_id_as": "Customer ID"}),
    ],
)
def test_what_is_or_was_mapped_or_is_the_vendors_is_taken(message_format: str, options: dict[str, Any]) -> None:
    judge(message_format, options)


def test_a_sentence_has_so_many_names_and_says_how_many_more_there_are() -> None:
    assert list_names([]) == "none"
    assert list_names([str(n) for n in range(MOST_NAMES + 1_000)]).endswith("59, and 1,000 more")


def test_a_format_made_of_one_of_ours_is_judged_and_one_of_its_own_is_not() -> None:
    ours = load_renderer(FORMATS["amplitude_cohort"], {"user_properties": ["town"]})
    with pytest.raises(ValueError, match="user_properties names 'town'; the mapped properties are city"):
        ours.check_options(MAPPED)
    named = load_renderer(FORMATS["adobe_profile"], {"audiences": ["x"]}).named_audiences()
    assert dict(named) == {"audiences": ["x"]}
    own = load_renderer(f"{__name__}.with_a_method_of_that_name", {})
    own.check_options(MAPPED)
    assert own.named_audiences() == {}


def with_a_method_of_that_name() -> Any:
    class Own:
        def __call__(self, changes: Any, envelope: Any) -> Any:
            return iter(())

        def check_options(self) -> None:
            raise AssertionError("it means something else")

    return Own()


# --- identity types by the words of the vendor's page ------------------------------------------------------------

LABELS = (
    *("Android ID", "Google Advertising ID (GAID)", "Apple Advertising ID (IDFA)", "Apple Vendor ID (IDFV)"),
    *("Fire Advertising ID", "Microsoft Advertising ID", "Roku Advertising ID", "Roku Publisher ID"),
    *("Customer ID", "Email Address", "Facebook ID", "Google ID", "Microsoft ID", "mParticle ID (MPID)", "Other"),
    *(f"Other {n}" for n in range(2, 11)),
    *("Twitter ID", "Yahoo ID"),
)
KEYS = {t.label: t.name for t in IDENTITY_TYPES}
JOB = derive_batch_id(sync_id="s", previous_as_of="", as_of="x", destination="d", render_config="r")
ENVELOPE = Envelope(batch_id=JOB, partitions=4, message_bytes=1_000_000)


def sent(kind: str, message_format: str = "mparticle_audience", **options: Any) -> dict[str, Any]:
    """Render the entry of one user whose identity is of a type."""
    changes = build_changes([Row("1", "entered", "u1", new_identities={kind: "secret"})])
    renderer = load_renderer(message_format, options)
    renderer.check_options(Mapped(identities={kind: AS_IT_IS}, properties=()))
    [message] = renderer(changes, ENVELOPE)
    found: dict[str, Any] = json.loads(message.document)
    return found


def test_the_table_has_the_labels_of_the_vendors_page() -> None:
    assert sorted(KEYS) == sorted(LABELS)
    assert len(LABELS) == 26


@pytest.mark.parametrize("label", LABELS)
def test_an_identity_is_left_out_by_the_label_of_the_vendors_page(label: str) -> None:
    user_id_as = "MPID" if label == "Customer ID" else "CustomerId"
    for kind in (label, KEYS[label]):
        assert sent(kind, user_id_as=user_id_as)["UserIdentities"] == {user_id_as: "u1", KEYS[label]: "secret"}
        excluded = sent(kind, user_id_as=user_id_as, identities_to_exclude=[label])
        assert excluded["UserIdentities"] == {user_id_as: "u1"}


@pytest.mark.parametrize("label", LABELS)
def test_a_label_means_the_vendors_key_wherever_an_identity_type_is_named(label: str) -> None:
    key, other = KEYS[label], "Email" if label != "Email Address" else "Customer ID"
    for name in (label, key):
        assert sent(other, user_id_as=name)["UserIdentities"] == {KEYS.get(other, other): "secret", key: "u1"}
        keyed = sent(label, user_id_as=None, identity_keys={name: "mine"})
        assert keyed["UserIdentities"] == {"mine": "secret"}
    by_key, by_label = (sent(kind, "mparticle_events", user_id_as=None) for kind in (key, label))
    assert by_key == by_label
    assert "secret" in json.dumps(by_label)
    by_key, by_label = (sent(other, "mparticle_events", user_id_as=kind) for kind in (key, label))
    assert by_key == by_label
    assert '"u1"' in json.dumps(by_label)


# --- what is left out of events is nowhere -----------------------------------------------------------------------


def updated(**options: Any) -> str:
    row = Row(
        "1",
        "updated",
        "u1",
        new={"city": "Bern", "plan": "gold"},
        old={"city": "Oslo", "plan": "basic"},
        updated="both",
        new_identities={"Email": "new@x.y", "IDFA": "idfa-1"},
        old_identities={"Email": "old@x.y", "IDFA": "idfa-0"},
    )
    renderer = load_renderer("mparticle_events", {"attribute_changes": True, "identity_changes": True, **options})
    return "".join(m.document.decode() for m in renderer(build_changes([row]), ENVELOPE))


def test_an_attribute_that_is_left_out_is_not_in_the_event_of_its_change_either() -> None:
    assert "Bern" in updated()
    shown = updated(exclude=["user_attributes.city"])
    assert "gold" in shown
    assert not [value for value in ("Bern", "Oslo", "city") if value in shown]


def test_the_identities_of_a_user_are_left_out_by_the_place_where_they_stand() -> None:
    shown = updated(exclude=["user_identities"])
    assert "idfa-1" in shown
    assert not [value for value in ("new@x.y", "old@x.y", '"u1"') if value in shown]


def test_the_ids_of_a_device_are_left_out_with_the_place_that_they_are_in() -> None:
    fields: dict[str, Any] = {"data.event_name": ["n"], "device_info.platform": ["iOS"]}
    events = Events(
        sync_id="s",
        end=build_changes([]).as_of,
        batch=[0],
        event_id=["e"],
        user_id=["u1"],
        device_id=[None],
        bucket=["abc"],
        occurred_at=[build_changes([]).as_of],
        identities={"IDFA": ["idfa-1"], "Email": ["ada@x.y"]},
        fields=fields,
    )
    [message] = load_renderer("mparticle_events", {"exclude": ["device_info"]})(events, ENVELOPE)
    assert b"ada@x.y" in message.document
    assert b"idfa-1" not in message.document
    assert b"device_info" not in message.document
