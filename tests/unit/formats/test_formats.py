"""The registry finds formats by name or dotted path, and says what it knows when it does not."""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from airflow_kinesis_audience import formats
from airflow_kinesis_audience.core.model.renderer import notice_renderer
from airflow_kinesis_audience.formats import FORMATS, RendererTraits, load_renderer
from airflow_kinesis_audience.formats.amplitude import AmplitudeCohort


class OwnFormat:
    """What a user of the provider might write."""

    def __init__(self, *, color: str = "red") -> None:
        self.color = color

    def __call__(self, changes, envelope):
        return iter(())


def any_options(**options):
    return OwnFormat(color=options["whatever"])


def failing():
    def render(changes, envelope):
        yield "a message"
        raise KeyError("ada@example.com")

    return render


def giving_nothing():
    return None


@pytest.mark.parametrize("name", FORMATS)
def test_every_registered_format_can_be_built_without_options_and_has_a_version(name):
    renderer = load_renderer(name, {})
    assert callable(renderer)
    assert type(renderer.traits.version) is int


def test_options_reach_the_format():
    renderer = load_renderer("amplitude_cohort", {"max_users": 3, "user_properties": ["city"]})
    assert renderer == AmplitudeCohort(max_users=3, user_properties=["city"])


def test_a_dotted_path_works_wherever_a_name_does():
    assert load_renderer(f"{__name__}.OwnFormat", {"color": "blue"}).renderer.color == "blue"
    assert load_renderer(f"{__name__}.any_options", {"whatever": 1}).renderer.color == 1


def test_of_the_failure_of_a_foreign_format_its_kind_and_place_are_shown_and_no_value():
    rendered = load_renderer(f"{__name__}.failing", {})(None, None)
    assert next(rendered) == "a message"
    shown = r"failing failed with KeyError \(test_formats.py, line \d+\), on values that are not shown"
    with pytest.raises(ValueError, match=shown) as caught:
        next(rendered)
    assert "ada@example.com" not in "".join(traceback.format_exception(caught.value))


def test_a_format_that_gives_no_renderer_is_refused():
    with pytest.raises(ValueError, match="giving_nothing' returns a NoneType; expected a renderer"):
        load_renderer(f"{__name__}.giving_nothing", {})


@pytest.mark.parametrize(
    "name",
    ["amplitude", "", "no.such.module", "json.no_such_name", ".relative.Path", "..x", f"{__name__}.pytest.no"],
)
def test_an_unknown_format_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="mparticle_audience, mparticle_events, or a dotted path") as caught:
        load_renderer(name, {})
    assert repr(name) in str(caught.value)


def test_a_path_to_something_that_cannot_be_called_is_refused():
    with pytest.raises(ValueError, match="is a str; expected one of"):
        load_renderer("json.__name__", {})


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="format_options has max_user; amplitude_cohort accepts max_users, user_prop"
    ):
        load_renderer("amplitude_cohort", {"max_user": 3})


class WithAttributes:
    """A renderer of an author's, with whatever attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __call__(self, changes, envelope):
        return iter(())


def with_attributes(**attributes):
    return WithAttributes(**attributes)


def plain():
    return lambda changes, envelope: iter(())


class Versioned(AmplitudeCohort):
    """A subclass of ours with bytes of its own."""

    version = 7


NOTICE = "a notice"


@pytest.mark.parametrize(
    ("attributes", "traits"),
    [
        ({}, {}),
        ({"color": "red", "parts": 3, "traits": ["city"], "versions": 2}, {}),
        ({"version": "2026.1"}, {"version": "2026.1"}),
        ({"apart": True}, {"one_message_per_row": True}),
        ({"one_message_per_row": 1}, {"one_message_per_row": True}),
        ({"exits_kept": timedelta(days=3)}, {"exits_kept": timedelta(days=3)}),
        ({"exits_kept": None, "render_notice": None, "count_excluded": None}, {}),
        ({"ordered_by_stream": True}, {"ordered_by_stream": True}),
        ({"tells_events": True}, {"renders_events": True}),
        ({"render_notice": lambda notice, envelope: NOTICE}, {"renders_notices": True}),
        ({"traits": RendererTraits(version=3, ordered_by_stream=True)}, {"version": 3, "ordered_by_stream": True}),
        ({"traits": RendererTraits(version=3), "version": 4}, {"version": 4}),
        ({"traits": RendererTraits(renders_notices=True, transform=("a", "b"))}, {}),
    ],
)
def test_the_traits_of_an_own_format_are_read_when_it_is_loaded(attributes, traits):
    assert load_renderer(f"{__name__}.with_attributes", attributes).traits == RendererTraits(**traits)


def test_a_plain_function_needs_no_traits_and_excludes_nobody():
    renderer = load_renderer(f"{__name__}.plain", {})
    assert (renderer.traits, renderer.count_excluded(None)) == (RendererTraits(), 0)
    with pytest.raises(ValueError, match=r"my\.format.*add a method render_notice"):
        notice_renderer(renderer, "my.format")


def test_the_methods_of_an_own_format_are_called():
    methods = {"count_excluded": lambda profiles: len(profiles), "render_notice": lambda notice, envelope: NOTICE}
    renderer = load_renderer(f"{__name__}.with_attributes", methods)
    assert renderer.count_excluded("abc") == 3
    assert notice_renderer(renderer, "my.format")(None, None) == NOTICE


def test_a_subclass_of_a_format_of_ours_keeps_its_traits_and_may_have_its_own_version():
    renderer = load_renderer(f"{__name__}.Versioned", {})
    assert renderer.traits == replace(AmplitudeCohort.traits, version=7)


@pytest.mark.parametrize("path", FORMATS.values())
def test_a_format_of_ours_has_the_same_traits_by_its_dotted_path(path):
    name = next(n for n, p in FORMATS.items() if p == path)
    assert load_renderer(path, {}).traits == load_renderer(name, {}).traits


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"exit_kept": timedelta(days=3)}, "with exit_kept, which is not used; did you mean exits_kept"),
        ({"order_by_stream": True}, "did you mean ordered_by_stream"),
        ({"count_exclude": len}, "did you mean count_excluded"),
        ({"render_notices": len}, "did you mean render_notice"),
        ({"one_message_per_rows": True}, "did you mean one_message_per_row"),
        ({"exits_kept": 30}, "whose exits_kept is a int; expected a timedelta"),
        ({"render_notice": "x"}, "whose render_notice is a str; expected a method"),
    ],
)
def test_a_misspelt_or_impossible_trait_is_found_when_the_format_is_loaded(attributes, says):
    with pytest.raises(ValueError, match=says):
        load_renderer(f"{__name__}.with_attributes", attributes)


def test_an_unknown_declared_trait_is_an_error():
    with pytest.raises(TypeError, match="exit_kept"):
        RendererTraits(exit_kept=timedelta(days=3))


def test_what_an_author_of_a_format_needs_is_imported_from_one_place():
    needed = {"Changes", "Envelope", "Events", "Message", "Notice", "Oversized", "Profiles", "partition_of"}
    assert needed <= set(formats.__all__)
    assert all(hasattr(formats, name) for name in formats.__all__)


def test_the_former_name_of_the_batch_id_is_still_read():
    envelope = formats.Envelope(batch_id=UUID(int=1), partitions=1, message_bytes=1)
    assert envelope.job == envelope.batch_id
