"""Arrow values made of Python's by their bytes, without pyarrow's own conversion.

At its first conversion pyarrow imports pandas, if that is installed. A task without frames needs neither the
time nor the 30 MiB that this takes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate

import pyarrow as pa


def texts(values: Iterable[str]) -> pa.StringArray:
    """Make an array of texts."""
    encoded = [value.encode() for value in values]
    ends = array("i", accumulate(map(len, encoded), initial=0))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def binary(value: bytes) -> pa.LargeBinaryScalar:
    """Make a value of bytes."""
    ends = array("q", (0, len(value)))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(ends), pa.py_buffer(value)])[0]


def integers(values: Iterable[int]) -> pa.Int64Array:
    """Make an array of whole numbers of 64 bits."""
    listed = array("q", values)
    return pa.Array.from_buffers(pa.int64(), len(listed), [None, pa.py_buffer(listed)])


def integer(value: int) -> pa.Int64Scalar:
    """Make a whole number of 64 bits."""
    return integers([value])[0]


def false() -> pa.BooleanScalar:
    """Make the value that is false."""
    return integers([0]).cast(pa.bool_())[0]
