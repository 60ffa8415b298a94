"""What Airflow sees of the package: an entry that it accepts, and a command line that works as before.

Each command runs in a process of its own with an empty AIRFLOW_HOME, as on the first day of an installation: a
provider with a wrong entry, or one that imports Airflow too early, breaks commands that know nothing of it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest

import airflow_kinesis_audience
from airflow_kinesis_audience.asset_uris import SCHEMES, sanitize_uri
from airflow_kinesis_audience.provider_info import get_provider_info

DISTRIBUTION = "airflow-kinesis-audience"
PACKAGE = Path(airflow_kinesis_audience.__file__).parent


@pytest.fixture(scope="module")
def installed() -> None:
    try:
        distribution(DISTRIBUTION)
    except PackageNotFoundError:
        pytest.skip("the package is not installed here: python3 run.py test, or pip install --no-deps -e .")


def run_python(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def run_airflow(*arguments: str, home: Path) -> str:
    """Run the real command line and return what it printed."""
    done = run_python("-m", "airflow", *arguments, home=home)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    return done.stdout


def listed_modules() -> list[str]:
    entry = get_provider_info()
    return [
        module
        for kind in ("operators", "hooks", "triggers")
        for integration in entry[kind]
        for module in integration["python-modules"]
    ]


def test_the_entry_is_what_airflows_schema_wants() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_integration_of_a_module_is_declared() -> None:
    entry = get_provider_info()
    declared = {integration["integration-name"] for integration in entry["integrations"]}
    assert {
        part["integration-name"] for kind in ("operators", "hooks", "triggers") for part in entry[kind]
    } == declared


@pytest.mark.parametrize("module", listed_modules())
def test_a_listed_module_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize(("folder", "ending"), [("operators", "Operator"), ("hooks", "Hook")])
def test_every_module_with_an_operator_or_a_hook_is_listed(folder: str, ending: str) -> None:
    holding = {
        f"{PACKAGE.name}.{folder}.{path.stem}"
        for path in (PACKAGE / folder).glob("[!_]*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name.endswith(ending) and not node.name.startswith("_")
    }
    assert holding <= set(listed_modules())


_ARN_KINDS = {"kinesis": "stream", "firehose": "deliverystream"}


def test_each_asset_of_this_package_has_a_uri_that_its_handler_takes_as_it_is() -> None:
    from airflow.sdk import Asset

    [entry] = get_provider_info()["asset-uris"]
    assert tuple(entry["schemes"]) == SCHEMES
    arns = (f"{n}://x/arn:aws:{n}:x:000000000000:{kind}/y" for n, kind in _ARN_KINDS.items())
    for uri in (
        "audience://lapsed.diff",
        "audience://a%2Fb%20c",
        "kinesis://eu-west-1/changes",
        "firehose://x/y",
        *arns,
    ):
        split = urlsplit(uri)
        assert sanitize_uri(split) is split
        assert Asset(uri).uri.rstrip("/") == uri
    for uri in ("audience://", "audience://a/b", "kinesis://changes", "kinesis://eu-west-1/", "firehose:///y"):
        with pytest.raises(ValueError, match=r"expected [a-z]+://<"):
            sanitize_uri(urlsplit(uri))


def test_a_wrong_uri_is_an_error_of_the_dag_file() -> None:
    from airflow.sdk import Asset

    with pytest.raises(ValueError, match="expected kinesis://<region>/<name or ARN of a stream>"):
        Asset("kinesis://changes")


def diff(**arguments: Any) -> Any:
    from airflow_kinesis_audience.operators import AudienceDiffOperator

    return AudienceDiffOperator(
        task_id="diff", warehouse_conn_id="w", sql="SELECT 1", audience_id="a", **arguments
    )


def partitions(**arguments: Any) -> int:
    from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_audience.operators import AudienceToKinesisOperator

    to = AudienceToKinesisOperator(
        task_id="to", change_set={}, stream_name="s", message_format="amplitude_cohort", **arguments
    )
    return to.build_delivery(KinesisStreamHook("s", region_name="eu-west-1")).partitions


def set_option(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"AIRFLOW__KINESIS_AUDIENCE__{name.upper()}", value)


BOUNDS = {
    "max_exit_ratio": 0.2,
    "max_exit_ratio_per_day": 0.3,
    "max_exits": 3,
    "max_change_ratio": 0.4,
    "min_members": 5,
}


def test_the_deployments_settings_are_defaults_of_tasks_commands_and_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow_kinesis_audience.hooks.settings import logs_sql

    options = get_provider_info()["config"]["kinesis_audience"]["options"]
    assert diff().state_schema == options["state_schema"]["default"]
    assert (partitions(), logs_sql()) == (int(options["partitions"]["default"]), False)
    for name, value in (("state_schema", "other"), ("partitions", "64"), ("log_sql", "True")):
        set_option(monkeypatch, name, value)
    assert (diff().state_schema, partitions(), logs_sql()) == ("other", 64, True)
    assert (diff(state_schema="mine").state_schema, partitions(partitions=8)) == ("mine", 8)
    for name in options:
        set_option(monkeypatch, name, " ")
    assert (diff().state_schema, partitions(), logs_sql()) == ("airflow_audience", 16, False)


def test_the_deployments_bounds_guard_each_task_that_sets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_kinesis_audience.operators import Guards

    options = get_provider_info()["config"]["kinesis_audience"]["options"]
    assert diff().build_guards() == Guards()
    assert {name: options[name]["default"] for name in BOUNDS} == {
        name: str(bound) for name, bound in Guards().bounds.items()
    }
    for name, value in BOUNDS.items():
        set_option(monkeypatch, name, str(value))
    assert diff().build_guards().bounds == BOUNDS
    assert diff(max_exits=7, max_exit_ratio=None).build_guards().bounds == {
        **BOUNDS, "max_exits": 7, "max_exit_ratio": None,
    }  # fmt: skip
    assert diff(max_exits="configured").build_guards().max_exits == 3
    assert diff(guards=Guards(min_members=2)).build_guards() == Guards(min_members=2)
    for name in BOUNDS:
        set_option(monkeypatch, name, "")
    assert diff().build_guards() == Guards(), "an empty variable takes no limit away"
    set_option(monkeypatch, "max_exit_ratio", "None")
    assert diff().build_guards() == Guards(max_exit_ratio=None)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max_exit_ratio", "50", "max_exit_ratio is 50.0; expected a share from 0 to 1, where 0.5 is 50%"),
        ("max_exit_ratio_per_day", "0,7", "max_exit_ratio_per_day is '0,7'; expected a number"),
        ("max_exits", "1.5", "max_exits is '1.5'; expected a whole number"),
        ("max_change_ratio", "nan", "max_change_ratio is nan; expected a number of 0 or more"),
        ("min_members", "-1", "min_members is -1; expected a whole number of 0 or more"),
        ("partitions", "12", "partitions is 12; expected a power of two from 1 to 4,096"),
        ("partitions", "many", "partitions is many; expected a power of two from 1 to 4,096"),
        ("log_sql", "maybe", "log_sql is 'maybe'; expected True or False"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_section_and_stops_no_task_that_has_its_own(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str, expected: str
) -> None:
    from airflow_kinesis_audience.hooks.settings import logs_sql

    readers: dict[str, Any] = {"partitions": partitions, "log_sql": logs_sql}
    set_option(monkeypatch, option, value)
    sentence = f"[kinesis_audience] of Airflow's configuration: {expected}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        readers.get(option, lambda: diff().build_guards())()
    assert partitions(partitions=8) == 8
    assert diff(**BOUNDS).build_guards().bounds == BOUNDS


@pytest.mark.parametrize("kind", ["extra-links", "notifications"])
def test_a_listed_class_exists(kind: str) -> None:
    for path in get_provider_info()[kind]:
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type)


@pytest.mark.usefixtures("installed")
def test_package_name_is_the_name_of_the_distribution() -> None:
    found = distribution(DISTRIBUTION)
    assert get_provider_info()["package-name"] == found.metadata["Name"]
    assert found.version == airflow_kinesis_audience.__version__


@pytest.mark.usefixtures("installed")
def test_the_entry_point_leads_to_the_entry() -> None:
    (point,) = distribution(DISTRIBUTION).entry_points.select(group="apache_airflow_provider")
    assert point.load()() == get_provider_info()


@pytest.mark.usefixtures("installed")
def test_airflow_lists_the_provider_with_its_version(tmp_path: Path) -> None:
    providers = json.loads(run_airflow("providers", "list", "--output", "json", home=tmp_path))
    versions = {provider["package_name"]: provider["version"] for provider in providers}
    assert versions[DISTRIBUTION] == airflow_kinesis_audience.__version__
    assert "apache-airflow-providers-amazon" in versions


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "command",
    [("version",), ("config", "list"), ("providers", "hooks"), ("providers", "get", DISTRIBUTION), ("plugins",)],
    ids=" ".join,
)
def test_airflows_command_line_still_works(command: tuple[str, ...], tmp_path: Path) -> None:
    assert run_airflow(*command, home=tmp_path).strip()


@pytest.mark.parametrize("module", [PACKAGE.name, f"{PACKAGE.name}.provider_info"])
def test_importing_the_package_loads_nothing_heavy(module: str, tmp_path: Path) -> None:
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    # -I -S: no start-up file of the environment may load anything, so that what is there is ours
    program = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {program}"
    done = run_python("-I", "-S", "-c", program, home=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert PACKAGE.name in loaded
    assert loaded.isdisjoint({"airflow", "boto3", "botocore", "sqlglot", "pandas", "pyarrow", "orjson"})


def test_the_plugin_adds_nothing_but_itself_to_a_process_of_airflow(tmp_path: Path) -> None:
    program = (
        "import sys, airflow.plugins_manager; before = set(sys.modules); "
        f"import {PACKAGE.name}.ui.plugin as plugin; plugin.AudiencePlugin; print(*set(sys.modules) - before)"
    )
    done = run_python("-c", program, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= {f"{PACKAGE.name}{part}" for part in ("", ".ui", ".ui.plugin")}


@pytest.mark.usefixtures("installed")
def test_airflow_finds_the_page(tmp_path: Path) -> None:
    plugins = json.loads(run_airflow("plugins", "--output", "json", home=tmp_path))
    [found] = [plugin for plugin in plugins if plugin["name"] == PACKAGE.name]
    assert "audience-page/" in str(found["external_views"])


HEAVY = ("sqlglot", "pyarrow", "pandas", "orjson", "boto3", "botocore")


@pytest.mark.parametrize("module", [f"{PACKAGE.name}.operators", f"{PACKAGE.name}.notifications"])
def test_a_dag_file_with_our_operators_loads_nothing_heavy_that_airflow_does_not(
    module: str, tmp_path: Path
) -> None:
    program = (
        "import sys, airflow.sdk, airflow.providers.standard.operators.hitl; before = set(sys.modules); "
        f"import {module}; print('loaded', *sorted({{n.split('.')[0] for n in set(sys.modules) - before}}))"
    )
    done = run_python("-c", program, home=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("loaded", 1)[1].split())
    assert PACKAGE.name in loaded
    assert {name for name in HEAVY if name in loaded} == set()
