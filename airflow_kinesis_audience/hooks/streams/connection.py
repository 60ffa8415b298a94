"""Checks an Airflow connection before anything is opened with it: what would be passed over is refused by name.

The amazon provider takes a connection of any type and passes over what it does not know, so that a misspelt
endpoint, or one in a connection of another type, would put records to the real AWS. No value of a connection is
shown: its extra may hold secrets.
Source: https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/aws.html
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError

_KNOWN: dict[str, tuple[type, ...]] = {
    "assume_role_kwargs": (dict,),
    "assume_role_method": (str,),
    "assume_role_with_saml": (dict,),
    "assume_role_with_web_identity": (dict, str),
    "aws_access_key_id": (str,),
    "aws_secret_access_key": (str,),
    "aws_session_token": (str,),
    "config_kwargs": (dict,),
    "endpoint_url": (str,),
    "profile_name": (str,),
    "region_name": (str,),
    "role_arn": (str,),
    "service_config": (dict,),
    "session_kwargs": (dict,),
    "verify": (bool, str),
}
"""What the provider reads of the extra."""
_MEANT = {"endpoint": "endpoint_url", "host": "endpoint_url", "region": "region_name"}
"""What older versions of it read, or what is easily taken for what it reads."""
_NUMBERS, _FLAG = (int, float), (bool,)
_OPTIONS: dict[str, tuple[type, ...]] = {
    "connect_timeout": _NUMBERS,
    "read_timeout": _NUMBERS,
    "max_pool_connections": (int,),
    "request_min_compression_size_bytes": (int,),
    "client_cert": (str, list),
    "client_context_params": (dict,),
    "proxies": (dict,),
    "proxies_config": (dict,),
    "retries": (dict,),
    "s3": (dict,),
    **dict.fromkeys(("parameter_validation", "inject_host_prefix", "endpoint_discovery_enabled"), _FLAG),
    **dict.fromkeys(("use_dualstack_endpoint", "use_fips_endpoint", "ignore_configured_endpoint_urls"), _FLAG),
    **dict.fromkeys(("tcp_keepalive", "disable_request_compression", "s3_disable_express_session_auth"), _FLAG),
}
"""The types of the SDK's options; the others are texts."""
_SERVICES = {
    "firehose": ("endpoint_url",),
    "iam": ("endpoint_url",),
    "kinesis": ("endpoint_url",),
    "sts": ("endpoint_url", "test_endpoint_url"),
}
_WORDS = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a text",
}
_NO_PATHS = ("", "0", "1", "false", "no", "none", "null", "true", "yes")


def require_aws(connection: Any) -> None:
    """Require that a connection is one of AWS, and that all it says is known.

    :param connection: of Airflow.
    :raises ValueError: naming what is wrong with it, without a value.
    """
    name = f"connection {connection.conn_id}"
    if (kind := connection.conn_type or "aws") != "aws":
        raise ValueError(
            f"{name} is of type {kind}; expected aws. Its settings would be ignored, also its endpoint; create a "
            "connection of type Amazon Web Services"
        )
    extra = _read_extra(name, connection.extra)
    where = f"the extra of {name}"
    for key, value in extra.items():
        if key in _KNOWN:
            _require_type(where, key, value, _KNOWN[key])
            continue
        known = _MEANT.get(key.lower()) or _nearest(key, _KNOWN)
        if known and known not in extra:
            raise ValueError(f"{where} has {key!r}, which is not used; did you mean {known}?")
    if str(extra.get("verify")).lower() in _NO_PATHS and isinstance(extra.get("verify"), str):
        raise ValueError(
            f"verify in {where} is a text; expected true, false, or the path of a file of certificates"
        )
    _require_url(where, extra.get("endpoint_url"))
    _require_options(where, extra.get("config_kwargs") or {})
    _require_services(where, extra.get("service_config") or {})


def _read_extra(name: str, extra: Any) -> Mapping[str, Any]:
    try:
        found = json.loads(extra) if isinstance(extra, str) and extra else extra or {}
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise ValueError(f"the extra of {name} is not a JSON object, so all of it would be ignored; correct it")
    return found


def _require_options(where: str, options: Mapping[str, Any]) -> None:
    inside = f"config_kwargs in {where}"
    for key, value in options.items():
        if key not in Config.OPTION_DEFAULTS:
            raise ValueError(
                f"{inside} has {key!r}, which is unknown to the AWS SDK{_offer(key, Config.OPTION_DEFAULTS)}"
            )
        _require_type(inside, key, value, _OPTIONS.get(key, (str,)))
    try:
        Config(**options)
    except (BotoCoreError, TypeError, ValueError) as error:
        raise ValueError(f"the AWS SDK does not accept {inside} ({type(error).__name__}); correct it") from None


def _require_services(where: str, services: Mapping[str, Any]) -> None:
    for service, options in services.items():
        inside = f"service_config in {where}"
        if service not in _SERVICES:
            # The connection may have something for hooks of other services.
            if known := _nearest(service, _SERVICES):
                raise ValueError(f"{inside} has {service!r}, which is not a service; did you mean {known}?")
            continue
        _require_type(inside, service, options, (dict,))
        for key in options or {}:
            if key not in _SERVICES[service]:
                known = " or ".join(_SERVICES[service])
                raise ValueError(f"{service} in {inside} has {key!r}, which is not used; expected {known}")
        _require_url(f"{service} in {inside}", (options or {}).get("endpoint_url"))


def _require_type(where: str, key: str, value: Any, types: tuple[type, ...]) -> None:
    is_flag_as_number = isinstance(value, bool) and bool not in types
    if value is None or value == "" or (isinstance(value, types) and not is_flag_as_number):
        return
    words = " or ".join(dict.fromkeys(_WORDS[kind] for kind in types))
    raise ValueError(f"{key} in {where} is of type {type(value).__name__}; expected {words}")


def _require_url(where: str, url: Any) -> None:
    if url and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
        raise ValueError(f"endpoint_url in {where} is not a URL; expected http://… or https://…")


def _nearest(key: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(key.lower().replace("-", "_"), list(known), n=1, cutoff=0.8)
    return found[0] if found else ""


def _offer(key: str, known: Iterable[str]) -> str:
    found = _nearest(key, known)
    return f"; did you mean {found}?" if found else "; remove it"
