"""Starts fakesnow's server on a port of this machine; run by the Python that has its packages.

It repairs what would make a test see what Snowflake never gives: fakesnow 0.12.1 gives an instant that is NULL as
the first second of 1970, makes of "no collation" one that DuckDB does not know, and forgets which characters RTRIM
is to take.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import uvicorn
from fakesnow import arrow, transforms
from fakesnow.server import app
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB


def with_nulls(convert: Any) -> Any:
    def converted(instants: Any) -> Any:
        given = instants.combine_chunks() if isinstance(instants, pa.ChunkedArray) else instants
        made = convert(given)
        return pa.StructArray.from_arrays(made.flatten(), fields=list(made.type), mask=pc.is_null(given))

    return converted


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")
    DuckDB.Generator.TRANSFORMS[exp.Collate] = lambda generator, collated: generator.sql(collated, "this")
    arrow.timestamp_to_sf_struct = with_nulls(arrow.timestamp_to_sf_struct)
    transforms.trim_cast_varchar = lambda expression: expression
    port, *tls = sys.argv[1:]
    secured = dict(zip(("ssl_certfile", "ssl_keyfile"), tls, strict=False))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", **secured)
