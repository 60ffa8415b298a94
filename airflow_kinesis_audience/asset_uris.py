"""The URIs of this package's assets: a wrong one is an error of the DAG file, and not a DAG that never runs.

Airflow imports it wherever a DAG names such an asset, so it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_FORMS = {
    "audience": "audience://<sync_id>, the id percent-encoded",
    "kinesis": "kinesis://<region>/<name or ARN of a stream>",
    "firehose": "firehose://<region>/<name or ARN of a delivery stream>",
}
SCHEMES = tuple(_FORMS)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Return an asset's URI as it is.

    :raises ValueError: if no task of this package has such an asset.
    """
    within = uri.path.strip("/")
    is_arn = within.startswith("arn:")
    if not uri.netloc or bool(within) == (uri.scheme == "audience") or ("/" in within and not is_arn):
        raise ValueError(f"the asset's URI is {uri.geturl()!r}; expected {_FORMS[uri.scheme]}")
    return uri
