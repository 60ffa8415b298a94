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
                    f"{_PACKAGE}.operators.delete",
                    f"{_PACKAGE}.operators.delivery_operator",
                    f"{_PACKAGE}.operators.detach",
                    f"{_PACKAGE}.operators.diff",
                    f"{_PACKAGE}.operators.events",
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
        "extra-links": [
            f"{_PACKAGE}.operators.links.AudienceLink",
            f"{_PACKAGE}.operators.links.StreamLink",
        ],
        "cli": [f"{_PACKAGE}.cli.airflow_commands.get_audience_commands"],
        "notifications": [f"{_PACKAGE}.notifications.AudienceNotifier"],
    }
