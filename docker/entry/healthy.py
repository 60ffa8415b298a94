"""Ends with 0 if an address answers with 200, for health checks in an image that has no curl."""

from __future__ import annotations

import sys
import urllib.request

if __name__ == "__main__":
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:  # noqa: S310
            sys.exit(answer.status != 200)
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
