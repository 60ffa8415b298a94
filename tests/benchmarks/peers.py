"""What the benchmarks compare with: installed once, beside the project's environment and apart from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_WANTED = Path(__file__).with_name("peers.txt")
_HOME = Path(sys.prefix) / "peers"


def peers() -> Path:
    """Give the directory that has the peers' packages; the first time, pip fills it."""
    made = _HOME / _WANTED.name
    if not made.exists() or made.read_text() != _WANTED.read_text():
        print("installing what is compared with …", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--upgrade", "--target", _HOME, "--requirement", _WANTED]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pip could not install {_WANTED.name}:\n{done.stderr[-2000:]}")
        made.write_text(_WANTED.read_text())
    return _HOME
