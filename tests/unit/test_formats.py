"""The registry finds formats by name or dotted path, and says what it knows when it does not."""

from __future__ import annotations

import traceback

import pytest

from airflow_kinesis_audience.formats import FORMATS, load_renderer
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
    assert type(renderer.version) is int


def test_options_reach_the_format():
    renderer = load_renderer("amplitude_cohort", {"max_users": 3, "user_properties": ["city"]})
    assert renderer == AmplitudeCohort(max_users=3, user_properties=["city"])


def test_a_dotted_path_works_wherever_a_name_does():
    assert load_renderer(f"{__name__}.OwnFormat", {"color": "blue"}).color == "blue"
    assert load_renderer(f"{__name__}.any_options", {"whatever": 1}).color == 1


def test_of_the_failure_of_a_foreign_format_its_kind_and_place_are_told_and_no_value():
    rendered = load_renderer(f"{__name__}.failing", {})(None, None)
    assert next(rendered) == "a message"
    told = r"failing failed with KeyError \(test_formats.py, line \d+\), on values that are not shown"
    with pytest.raises(ValueError, match=told) as caught:
        next(rendered)
    assert "ada@example.com" not in "".join(traceback.format_exception(caught.value))


def test_a_format_that_gives_no_renderer_is_refused():
    with pytest.raises(ValueError, match="giving_nothing' gives a NoneType; expected a renderer"):
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
        ValueError, match="format_options has max_user; amplitude_cohort knows max_users, user_prop"
    ):
        load_renderer("amplitude_cohort", {"max_user": 3})
