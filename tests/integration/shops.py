"""Shops for the page to show: one of many audiences, one in which everything happens, and one for pictures."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import sin
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.guards import Guards
from airflow_kinesis_audience.core.model.instants import instant_text
from tests.integration.scripted_airflow import DAY, NOW, STREAM, Shop, counted

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.changes.counts import AudienceCounts

ARCHIVE = "firehose://eu-west-1/audience-archive"
PINNED = ["firehose://eu-west-1/archive (adobe_profile) keeps 9 tables since 2026-01-02T00:00:00Z"]
SHOP = (
    ("cart_3d", "Abandoned cart, 3 days", 4210, 390),
    ("first_order", "First order this week", 980, 61),
    ("gold", "Gold members", 3120, 25),
    ("lapsed_180", "Lapsed 180 days", 7460, 48),
    ("newsletter", "Newsletter readers", 9340, 130),
    ("price_drop", "Watched a price drop", 1670, 240),
    ("win_back", "Win back: 60 to 90 days", 2890, 175),
)


def many_audiences(number: int, runs: int = 2) -> Shop:
    """Return a shop with one sync of many audiences."""
    shop = Shop()
    shop.add_dag("many")
    for n in range(runs):
        found = [counted(f"a{a}", f"Audience {a}", 1 + (a + n) % 5, 1, 1) for a in range(number)]
        shop.run("many", NOW - (runs - 1 - n) * DAY, found, first=n == 0)
    return shop


def busy_shop(days: int = 20) -> Shop:
    """Return a shop in which everything happens that the page has a name for."""
    shop = Shop()
    for dag_id in ("lifecycle", "vip", "nightly", "churn"):
        shop.add_dag(dag_id)
    for n in range(days):
        at = NOW - (days - 1 - n) * DAY
        found = [counted(i, name, m + (n * 37) % s, s - n % 7, s - (3 * n) % 11) for i, name, m, s in SHOP]
        held = {"held_audiences": {"win_back": ["audience 'win_back': 2,100 of 2,890 members would exit, 73%"]}}
        shop.run("lifecycle", at, found, first=n == 0, more=held if n == days - 1 else None, pinned=PINNED)
        if n < days - 1:
            tight = Guards(max_exits=40, min_members=150)
            vip = [counted("vip", "VIP customers", 190 + n % 5, 8 + n % 4, 12 + 5 * (n % 6))]
            shop.run(
                "vip",
                at,
                vip,
                first=n == 0,
                guards=tight,
                more=_vip(n, at),
                delivered=_dead(n, days),
                pinned=PINNED,
            )
        read = {"bytes_scanned": 1_705_000_000}
        shop.run("nightly", at, [counted("night", "Night owls", 300 + n, 4, 3)], first=n == 0, more=read)
        shop.run("churn", at, [counted("churn", "Churn risk above 0.8", 800 - n, 9, 10)], first=n == 0)
    _hold(shop, "vip", NOW, members=193, approved=NOW - 11 * DAY)
    _skip(shop)
    return shop


def _vip(n: int, at: datetime) -> dict[str, Any]:
    if n == 4:
        counts = {"entered": 2, "exited": 1, "updated": 0}
        compensation = {"as_of": instant_text(at + DAY - timedelta(seconds=1)), **counts}
        return {"inserted": True, "compensation": {**compensation, "audiences": {"vip": counts}}}
    if n == 6:
        return {"corrects": instant_text(at - timedelta(seconds=1))}
    return {"let_through": ["audience 'vip': 42 of 190 members would exit (max_exits is 40)"]} if n == 8 else {}


def _dead(n: int, days: int) -> dict[str, Any]:
    return {"still_rejected": 2, "rejected": 2} if n == days - 2 else {}


def _hold(shop: Shop, dag_id: str, at: datetime, *, members: int, approved: datetime) -> None:
    """Have a run wait for an answer, and an older one be answered."""
    run_id = f"scheduled__{at.isoformat()}"
    shop.add_task(dag_id, "diff", "AudienceDiffOperator", at)
    shop.add_task(dag_id, "approve", "AudienceApprovalOperator", at, "awaiting_input")
    exits = f"{members * 9 // 10} of {members} members would exit, 90%"
    sentences = [f"audience 'vip': {exits} (max_exit_ratio is 50%)"]
    stop = {"state": "held", "sync_id": f"{dag_id}.diff", "as_of": instant_text(at), "sentences": sentences}
    shop.xcoms |= {(dag_id, run_id, task): stop for task in ("diff", "approve")}
    shop.approvals.append(
        {
            "responded_by_user": {"id": "7", "name": "ines"},
            **{"responded_at": (approved + timedelta(hours=3)).isoformat(), "chosen_options": ["Approve"]},
            "response_received": True,
            "task_instance": {
                **{"dag_id": dag_id, "dag_run_id": f"scheduled__{approved.isoformat()}", "task_id": "approve"},
                **{"map_index": -1, "operator_name": "AudienceApprovalOperator"},
            },
        }
    )


def _skip(shop: Shop) -> None:
    """Have a run of ``nightly`` be skipped, and the newest of ``churn`` fail."""
    at = NOW - 3 * DAY - timedelta(hours=5)
    shop.add_task("nightly", "diff", "AudienceDiffOperator", at, "skipped")
    why = [f"this run represents {instant_text(at)}, and a later run has published {instant_text(NOW)}"]
    key = ("nightly", f"scheduled__{at.isoformat()}", "diff")
    shop.xcoms[key] = {"state": "skipped", "sync_id": "nightly.diff", "as_of": instant_text(at), "sentences": why}
    late = NOW + timedelta(minutes=5)
    shop.add_task("churn", "diff", "AudienceDiffOperator", late, "failed")
    why = ["connection 'warehouse' to db.example:5432 was refused; check that the server runs"]
    key = ("churn", f"scheduled__{late.isoformat()}", "diff")
    shop.xcoms[key] = {"state": "failed", "sync_id": "churn.diff", "as_of": instant_text(late), "sentences": why}


VIP = "vip_customers"
SYNCS = (
    (VIP, "vip", "VIP customers", 188, 9),
    ("lapsed_customers", "lapsed_90", "Lapsed 90 days", 6200, 88),
    ("churn_scores", "churn", "Churn risk above 0.8", 1480, 57),
)
"""DAGs of one audience: its id, its name, its members at first, and about how many enter and exit in a day."""


def believable_shop(days: int = 28) -> Shop:
    """Return four weeks of a shop, for pictures: all is well, but for one run that waits for a person."""
    shop, sizes = Shop(), {name: size for name, _, size, _ in SHOP} | {name: size for _, name, _, size, _ in SYNCS}
    night = NOW.replace(hour=3) - (DAY if NOW.hour < 4 else timedelta())
    for dag_id in ("lifecycle", *(dag_id for dag_id, *_ in SYNCS)):
        shop.add_dag(dag_id, night + DAY)

    def found(n: int, place: int, audience_id: str, name: str, moved: int) -> AudienceCounts:
        entered, exited = (round(moved * (1 + 0.5 * sin(x * n + place))) for x in (0.9, 0.7))
        sizes[audience_id] += entered - exited
        return counted(audience_id, name, sizes[audience_id], entered, exited)

    for n in range(days):
        at, first = night - (days - 1 - n) * DAY, n == 0
        many = [found(n, place, of, name, moved) for place, (of, name, _, moved) in enumerate(SHOP)]
        shop.run("lifecycle", at, many, first=first)
        for place, (dag_id, of, name, _, moved) in enumerate(SYNCS):
            is_approved = dag_id == VIP and n == days - 10
            if dag_id == VIP and n == days - 1:
                continue
            one = found(n, place, of, name, 4 * moved if is_approved else moved)
            why = f"audience 'vip': {one.exited} of {one.previous_members} members would exit (max_exits is 20)"
            more = {"let_through": [why]} if is_approved else {}
            how = {"guards": Guards(max_exits=20)} if dag_id == VIP else {}
            to = ARCHIVE if dag_id == "lapsed_customers" else STREAM
            shop.run(dag_id, at, [one], first=first, destination=to, more=more, **how)
    _hold(shop, VIP, night, members=sizes["vip"], approved=night - 9 * DAY)
    return shop
