"""Small versions of the loads; ``python -m tests.reliability load`` has the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.load import BOUNDS, Case, bear

SMALL = (
    Case("many changes, one of them too large", 60_000, too_large=1),
    Case("many audiences", 40_000, audiences=400),
    Case("members of 5 MiB", 500, too_large=4, large=20, bounds=BOUNDS | {"memory_limit": "1GB"}),
)


@pytest.mark.slow
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_every_change_is_delivered_or_rejected_and_counted(tmp_path: Path, case: Case) -> None:
    found = bear(case, tmp_path)
    report = found.report
    assert report.delivered == found.users == case.changes + case.large
    assert (report.rejected, report.still_rejected, report.omitted) == (case.too_large, case.too_large, 0)
    assert len(report.rejected_users) == case.too_large
