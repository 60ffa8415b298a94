"""Splits a record that aggregates several messages in the format of the Kinesis Producer Library.

The KCL splits records automatically; a Lambda function, or another caller of GetRecords, must split them. It
needs Python's standard library alone. The invariant: a record that is not of that format, or not whole, is
returned unchanged. Format: https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

MARK = b"\xf3\x89\x9a\xc2"
"""What such a record begins with."""
_DIGEST_BYTES = 16
_RECORDS, _DATA = 3, 3
"""Numbers of the two fields that matter: the records of the frame, and the data of a record."""
_FIXED_BYTES = {1: 8, 5: 4}


def split_record(data: bytes) -> list[bytes]:
    """Split a record into its messages.

    :param data: the record's bytes, as the stream holds them.
    :returns: its messages, in order; the record itself if it is not aggregated.
    """
    frame, digest = data[len(MARK) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not data.startswith(MARK) or hashlib.md5(frame, usedforsecurity=False).digest() != digest:
        return [data]
    try:
        records = [value for field, value in _read_fields(frame) if field == _RECORDS]
        return [value for record in records for field, value in _read_fields(record) if field == _DATA]
    except (IndexError, KeyError):  # it ends too early, or has what Protocol Buffers do not have
        return [data]


def _read_fields(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Read the fields of a Protocol Buffers message that hold bytes, each with its number."""
    at = 0
    while at < len(frame):
        tag, at = _read_number(frame, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _read_number(frame, at)
        elif kind == 2:
            length, at = _read_number(frame, at)
            yield field, frame[at : at + length]
            at += length
        else:
            at += _FIXED_BYTES[kind]


def _read_number(frame: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while frame[at] & 0x80:
        number, shift, at = number | (frame[at] & 0x7F) << shift, shift + 7, at + 1
    return number | frame[at] << shift, at + 1
