"""What Airflow's provider manager reads about this package.

Airflow reads it in every process, so it imports nothing. An entry that fails Airflow's schema would stop the
discovery of every provider, not of this one alone: a test validates it. ``package-name`` is the name of the
distribution, which Airflow compares.
"""

from __future__ import annotations

from typing import Any

_KINESIS = "Kinesis audiences"
_FIREHOSE = "Firehose audiences"
_PACKAGE = "airflow_kinesis_audience"


_GUARDS = {
    "max_exit_ratio": (
        "Stop a change set if more than this share of an audience's previous members would exit; None for no "
        "limit. This and the next four are for diff tasks that set neither the same argument nor guards.",
        "string",
        "0.5",
    ),
    "max_exit_ratio_per_day": (
        "Stop if more than this share would have exited within the 24 hours up to the run; None for no limit.",
        "string",
        "None",
    ),
    "max_exits": ("Stop if more members of an audience would exit; None for no limit.", "string", "None"),
    "max_change_ratio": (
        "Stop if entries and exits together exceed this share of the previous members; None for no limit.",
        "string",
        "None",
    ),
    "min_members": ("Stop if an audience would have fewer members; None for no limit.", "string", "None"),
}
"""By the name of a bound: what it stops, its type, which is text because of None, and its default."""


def _option(description: str, kind: str, default: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": None,
        "default": default,
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's entry, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-kinesis-audience",
        "name": "Kinesis Audience",
        "description": "Delivers who entered, left or changed in an audience to Kinesis and Firehose.",
        "integrations": [
            {
                "integration-name": _KINESIS,
                "external-doc-url": "https://docs.aws.amazon.com/streams/latest/dev/introduction.html",
                "tags": ["aws"],
            },
            {
                "integration-name": _FIREHOSE,
                "external-doc-url": "https://docs.aws.amazon.com/firehose/latest/dev/what-is-this-service.html",
                "tags": ["aws"],
            },
        ],
        "operators": [
            {
                "integration-name": _KINESIS,
                "python-modules": [
                    f"{_PACKAGE}.operators.approve",
                    f"{_PACKAGE}.operators.check",
                    f"{_PACKAGE}.operators.delete",
                    f"{_PACKAGE}.operators.delivery_operator",
                    f"{_PACKAGE}.operators.detach",
                    f"{_PACKAGE}.operators.diff",
                    f"{_PACKAGE}.operators.events",
                    f"{_PACKAGE}.operators.forget",
                    f"{_PACKAGE}.operators.publish",
                    f"{_PACKAGE}.operators.replay",
                    f"{_PACKAGE}.operators.resync",
                ],
            },
        ],
        "hooks": [
            {
                "integration-name": _KINESIS,
                "python-modules": [
                    f"{_PACKAGE}.hooks.kinesis",
                    f"{_PACKAGE}.hooks.streams.stream_hook",
                    f"{_PACKAGE}.hooks.warehouse",
                ],
            },
            {
                "integration-name": _FIREHOSE,
                "python-modules": [f"{_PACKAGE}.hooks.firehose"],
            },
        ],
        "triggers": [
            {
                "integration-name": _KINESIS,
                "python-modules": [f"{_PACKAGE}.operators.statement_trigger"],
            },
        ],
        "extra-links": [
            f"{_PACKAGE}.operators.links.AudienceLink",
            f"{_PACKAGE}.operators.links.StreamLink",
        ],
        "asset-uris": [
            {"schemes": ["audience", "kinesis", "firehose"], "handler": f"{_PACKAGE}.asset_uris.sanitize_uri"},
        ],
        "config": {
            "kinesis_audience": {
                "description": "Defaults of this deployment for the arguments of all audience tasks.",
                "options": {
                    "state_schema": _option(
                        "The schema of the state. Set it before the first run: with another one, each sync starts "
                        "again.",
                        "string",
                        "airflow_audience",
                    ),
                    "partitions": _option(
                        "Partition keys per audience, a power of two: best a multiple of the shards.",
                        "integer",
                        "16",
                    ),
                    "log_sql": _option(
                        "Write each statement to the task's log, without its parameters. What a query holds as "
                        "text is in the log then.",
                        "boolean",
                        "False",
                    ),
                    **{name: _option(*bound) for name, bound in _GUARDS.items()},
                },
            },
        },
        "task-decorators": [
            {"name": "audience", "class-name": f"{_PACKAGE}.operators.decorator.audience_task"},
        ],
        "cli": [f"{_PACKAGE}.cli.airflow_commands.get_audience_commands"],
        "notifications": [f"{_PACKAGE}.notifications.AudienceNotifier"],
    }
