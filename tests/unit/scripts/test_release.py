"""What may be released: only what its tag and its changelog say, of steps that are pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from scripts import release
from tests.docs.pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_a_version_without_a_heading_is_not_released() -> None:
    release.check_changelog("1.2.3", "# Changelog\n\n## [1.2.3] - 2026-02-01\n")
    for text in ("## [1.2.3] - unreleased\n", "## [1.2.30] - 2026-02-01\n", ""):
        with pytest.raises(release.ReleaseFailed, match=r"no heading '## \[1\.2\.3\] - YYYY-MM-DD'"):
            release.check_changelog("1.2.3", text)


def test_a_tag_of_another_version_is_not_released() -> None:
    release.check_tag("v1.2.3", "1.2.3")
    with pytest.raises(release.ReleaseFailed, match=r"expected v1\.2\.3"):
        release.check_tag("v1.2.4", "1.2.3")


def test_the_changelog_speaks_of_the_version_that_is_there() -> None:
    first = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert first == release.read_version()


def test_commits_that_a_user_may_notice_are_listed_and_no_others() -> None:
    log = "feat: a\nfix(hooks): b\ntest: c\nperf!: d\ndocs: e\nfeature: f\nrefactor!: g\nstyle: feat: h"
    assert release.list_noticed(log) == ["feat: a", "fix(hooks): b", "perf!: d", "refactor!: g"]


def test_builds_that_differ_are_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter([{"a.whl": "1", "a.tar.gz": "2"}, {"a.whl": "1", "a.tar.gz": "3"}])
    monkeypatch.setattr(release, "build", lambda *_: next(digests))
    with pytest.raises(release.ReleaseFailed, match=r"two builds differ in a\.tar\.gz;"):
        release.build_twice(tmp_path, "0")


def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is() -> None:
    assert len(WORKFLOWS) == 2
    for path in WORKFLOWS:
        used = re.findall(r"uses: (.+)", path.read_text())
        assert used
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", u) for u in used), path.name


def test_the_workflows_run_the_tests_and_the_release_steps_and_give_no_more_rights_than_needed() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        runs = [s.get("run") for job in workflow["jobs"].values() for s in job["steps"]]
        assert "bash .ci/run" in runs
        assert "python3 run.py release dist" in runs
        rights = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
        assert rights == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})


def test_the_metadata_is_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"name", "description", "readme", "license", "license-files", "requires-python", "keywords"}
    assert needed | {"classifiers", "dependencies", "entry-points"} <= project.keys()
    assert "Typing :: Typed" in project["classifiers"]
    assert all((ROOT / file).is_file() for file in project["license-files"])
    assert (ROOT / "airflow_kinesis_audience" / "py.typed").is_file()
