"""The ARNs of streams: read, checked and made; a form is such as ``arn:aws:kinesis:REGION:ACCOUNT:stream/NAME``.

Nothing here asks AWS whether there is such a stream.
"""

from __future__ import annotations


def region_of(arn: str, region_name: str | None, *, form: str, argument: str) -> str:
    """Give the region of a stream's ARN.

    :param region_name: that the author has named as well.
    :raises ValueError: if the ARN has another form, or another region.
    """
    # arn:partition:service:region:account:kind/name
    parts, wanted = arn.split(":", 5), form.split(":", 5)
    kind = wanted[5].partition("/")[0]
    if len(parts) != 6 or parts[2] != wanted[2] or not parts[3] or not parts[5].startswith(f"{kind}/"):
        raise ValueError(f"{argument} is {arn!r}; expected a name or {form}")
    if region_name not in (None, parts[3]):
        raise ValueError(f"region_name is {region_name!r}, but the stream's ARN says {parts[3]!r}; remove one")
    return parts[3]


def arn_in_account_of(caller: str, name: str, region: str, *, form: str) -> str:
    """Make the ARN by which a caller reaches a stream by name: in its own account and partition."""
    _, partition, _, _, account, _ = caller.split(":", 5)
    _, _, service, _, _, last = form.split(":", 5)
    return f"arn:{partition}:{service}:{region}:{account}:{last.partition('/')[0]}/{name}"
