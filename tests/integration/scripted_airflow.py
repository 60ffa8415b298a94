"""An Airflow's REST API as the page asks it, with a shop of any size and no scheduler behind it.

The page's files come from the package's own server, with its headers. Events are those that the package emits;
only the place where they are kept is scripted. What a real Airflow answers is the subject of ``test_page``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException, Query
from starlette.responses import HTMLResponse

from airflow_kinesis_audience.core.changes.counts import AudienceCounts
from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.model.audience import Source
from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
from airflow_kinesis_audience.core.model.instants import instant_text
from airflow_kinesis_audience.operators.reporting import assets

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
STREAM = "kinesis://eu-west-1/audience-changes"
SOURCE = Source(
    query="",
    user_id="customer_id",
    identities={"email": "Email", "phone": "Other"},
    identity_rules={"email": IdentityRule(normalize="email", hash="sha256")},
    properties={"city": "city", "last_order": "order.last"},
    audience_id_column="audience",
)
SAMPLE = {
    "cohort_id": "audience-id",
    "in_cohort": True,
    "users": [{"user_id": "•••", "user_properties": {"city": "•••"}}],
}
PAGE = "/audience-page/"


_DIFF = timedelta(minutes=1)
"""How long after it is due a run has recorded its change set."""


def _publish_time(delivered: Mapping[str, Any]) -> timedelta:
    """Return when a run has delivered: the later, the more there was."""
    return _DIFF + timedelta(seconds=20 + delivered["delivered"] / 40)


@dataclass
class Shop:
    """What there is to be seen: asset events, task instances, their XComs, DAGs and approvals."""

    events: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    xcoms: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    dags: dict[str, dict[str, Any]] = field(default_factory=dict)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    asset_ids: dict[str, int] = field(default_factory=dict)

    def add_dag(self, dag_id: str, next_run: datetime = NOW + DAY) -> None:
        self.dags[dag_id] = {
            "dag_id": dag_id,
            "is_paused": False,
            "next_dagrun_run_after": next_run.isoformat(),
        }

    def add_task(self, dag_id: str, task_id: str, operator: str, at: datetime, state: str = "success") -> None:
        ended = at + timedelta(minutes=2)
        self.tasks.append(
            {
                **{"dag_id": dag_id, "dag_run_id": f"scheduled__{at.isoformat()}", "task_id": task_id},
                **{"map_index": -1, "operator_name": operator, "state": state, "try_number": 1},
                **{"run_after": at.isoformat(), "start_date": at.isoformat(), "end_date": ended.isoformat()},
            }
        )

    def add_event(self, asset: str, extra: Mapping[str, Any], dag_id: str, task_id: str, at: datetime) -> None:
        self.events.append(
            {
                "asset_id": self.asset_ids.setdefault(asset, len(self.asset_ids) + 1),
                "name": asset,
                "extra": json.loads(json.dumps(extra)),
                **{"source_dag_id": dag_id, "source_run_id": f"scheduled__{at.isoformat()}"},
                **{"source_task_id": task_id, "source_map_index": -1},
                "timestamp": (at + (_DIFF if task_id == "diff" else _publish_time(extra))).isoformat(),
            }
        )

    def run(
        self,
        dag_id: str,
        at: datetime,
        counts: Sequence[AudienceCounts],
        *,
        first: bool = False,
        more: Mapping[str, Any] | None = None,
        guards: Guards | None = None,
        delivered: Mapping[str, Any] | None = None,
        pinned: Sequence[str] = (),
        destination: str = STREAM,
    ) -> None:
        """Add a run that was published.

        :param more: what its summary has besides.
        :param delivered: what the summary of its delivery has besides.
        :param pinned: what history is kept for which delivery, a sentence each.
        """
        summary: dict[str, Any] = {
            **{"sync_id": f"{dag_id}.diff", "as_of": instant_text(at)},
            "previous_as_of": None if first else instant_text(at - DAY),
            **{n: sum(getattr(c, n) for c in counts) for n in ("entered", "exited", "updated", "members")},
            **{"statements": 7, "statement_seconds": 1.284},
            **(more or {}),
        }
        outlets = _Outlets()
        assets.emit_change_set(
            {"outlet_events": outlets}, None, summary, guards or Guards(), counts, {}, pinned, SOURCE
        )
        self.add_event(*outlets["emitted"], dag_id, "diff", at)
        changes = summary["entered"] + summary["exited"] + summary["updated"]
        sent: dict[str, Any] = {
            "bytes": 90 * changes,
            **dict.fromkeys(("messages", "records", "delivered"), changes),
        }
        sent |= {"rejected": 0}
        sent |= {"omitted": 0, "excluded": 0, "retried": 3, "seconds": 0.8, "destination": destination}
        sent |= {"still_rejected": 0, "change_sets": [summary["as_of"]], **(delivered or {})}
        assets.emit_delivery({"outlet_events": outlets}, None, {**summary, **sent}, "amplitude_cohort", SAMPLE)
        self.add_event(*outlets["emitted"], dag_id, "publish", at)
        self.add_task(dag_id, "diff", "AudienceDiffOperator", at)
        self.add_task(dag_id, "publish", "AudienceToKinesisOperator", at)


class _Outlets(dict[Any, Any]):
    """Takes an event as Airflow does."""

    def __missing__(self, key: Any) -> _Outlets:
        return self

    def add(self, asset: Any, extra: dict[str, Any]) -> None:
        self["emitted"] = (asset.name, extra)


def counted(audience_id: str, name: str, members: int, entered: int, exited: int) -> AudienceCounts:
    """Return what a run found of an audience."""
    before = members - entered + exited
    return AudienceCounts(
        **{"audience_id": audience_id, "audience_name": name, "source_rows": members, "invalid_rows": 0},
        **{"duplicate_rows": 0, "previous_members": before, "members": members},
        **{"entered": entered, "exited": exited, "updated": 1},
    )


@contextlib.contextmanager
def scripted_airflow(shop: Shop) -> Iterator[str]:
    """Serve a shop; gives the address."""
    from airflow.api_fastapi.core_api.security import get_user

    from airflow_kinesis_audience.ui.server import make_server

    page, app = make_server(), FastAPI()
    page.dependency_overrides[get_user] = lambda: None
    app.mount("/api/v2", _api(shop))
    app.mount(PAGE.rstrip("/"), page)

    @app.get("/plugin/audiences")
    def frame() -> HTMLResponse:
        style = "border: 0; position: fixed; inset: 0; width: 100%; height: 100%"
        return HTMLResponse(f'<html lang="en"><title>x</title><iframe title="x" src="{PAGE}" style="{style}">')

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _api(shop: Shop) -> FastAPI:
    api = FastAPI()

    def paged(key: str, rows: Sequence[Any], limit: int, offset: int = 0) -> dict[str, Any]:
        return {key: rows[offset : offset + limit], "total_entries": len(rows)}

    @api.get("/assets")
    def find_assets(limit: int) -> dict[str, Any]:
        return paged("assets", [name for name in shop.asset_ids if name.startswith("audience://")], limit)

    @api.get("/assets/events")
    def find_events(
        limit: int, offset: int = 0, name_pattern: str = "", asset_id: int | None = None
    ) -> dict[str, Any]:
        found = [e for e in shop.events if name_pattern in e["name"] and asset_id in (None, e["asset_id"])]
        return paged("asset_events", sorted(found, key=lambda e: e["timestamp"], reverse=True), limit, offset)

    @api.get("/dags/~/dagRuns/~/taskInstances")
    def find_tasks(
        limit: int, state: Annotated[list[str], Query()], offset: int = 0, dag_id_pattern: str = ""
    ) -> dict[str, Any]:
        found = [t for t in shop.tasks if dag_id_pattern in t["dag_id"] and t["state"] in state]
        return paged("task_instances", sorted(found, key=lambda t: t["run_after"], reverse=True), limit, offset)

    @api.get("/dags")
    def find_dags(limit: int, offset: int = 0) -> dict[str, Any]:
        return paged("dags", list(shop.dags.values()), limit, offset)

    @api.get("/dags/{dag_id}")
    def find_dag(dag_id: str) -> Any:
        return shop.dags[dag_id]

    @api.get("/dags/{dag_id}/dagRuns/~/hitlDetails")
    def find_approvals(dag_id: str, limit: int, offset: int = 0) -> dict[str, Any]:
        found = [a for a in shop.approvals if a["task_instance"]["dag_id"] == dag_id]
        return paged("hitl_details", found, limit, offset)

    @api.get("/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}")
    def find_xcom(dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        if key != "state" or (dag_id, run_id, task_id) not in shop.xcoms:
            raise HTTPException(404)
        return {"value": shop.xcoms[dag_id, run_id, task_id]}

    return api
