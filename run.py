"""One command for everything: makes the environment in .venv when it is missing or old, and runs in it.

    python3 run.py demo         the whole way on this machine, without an account anywhere
    python3 run.py test         style, types and all tests; further arguments go to pytest
    python3 run.py lint         style, types, which package imports which, and plain words
    python3 run.py page         build the page of Airflow's UI, as a wheel has it
    python3 run.py docs         build the documentation's site in build/site
    python3 run.py bench        the benchmarks, or those that are named
    python3 run.py reliability  the long runs: crashes, a soak, loads, other versions; or those that are named
    python3 run.py simulate     random histories of faults; --seed N lives one again
    python3 run.py mutants      mistakes in the engine that the tests should notice; --seed N draws the same again
    python3 run.py audit        what is known of the packages of requirements.lock
    python3 run.py sbom         a bill of them, as CycloneDX; to a file, if one is named
    python3 run.py release      build what would be released, twice, and look at it; DIRECTORY is dist by default
    python3 run.py lock         write requirements.lock anew (--upgrade for the newest versions)

It needs Python 3.11 with venv and nothing else, installs exactly what requirements.lock and page/package-lock.json
say, follows pip's and npm's settings, and changes nothing but .venv, page/node_modules, what it is asked to build,
and the caches of pip, uv and npm.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(f"This needs Python 3.11 or newer; this is Python {sys.version.split()[0]}. Try: python3.11 run.py")

import ast
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "made-by-run.py"
LOCK = ROOT / "requirements.lock"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

LINTS = (
    ("ruff check", ["-m", "ruff", "check", "."]),
    ("ruff format", ["-m", "ruff", "format", "--check", "."]),
    ("mypy", ["-m", "mypy"]),
    # it has no module of its own to be run
    ("lint-imports", ["-c", "import importlinter.cli as cli; cli.lint_imports_command()"]),
    ("plain words", ["-m", "pytest", "-q", "-n0", "tests/docs/test_prose.py"]),
)
# Two files of tests at a time, since many wait for an Airflow. A file stays together: what it has made is for all
# its tests. In the order of their names the long ones come first. -n 0 runs them one by one.
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
# The page of Airflow's UI. Each builds it if it has to; Node is a Python package of the environment.
PAGE = {"build": "building the page", "check": "the page's types", "test": "the page's tests"}
# mysqlclient has no wheels, and who has no compiler can do without it; the tests that need it build it.
COMPILE = (
    "pip compile pyproject.toml --extra demo --extra duckdb --extra kpl --extra postgres "
    "--extra s3 --extra mysql --extra hiveserver2 --group dev --universal --python-version 3.11 --quiet "
    "--no-emit-package mysqlclient "
    "--no-annotate --generate-hashes --no-emit-index-url --output-file requirements.lock"
)


def main(arguments):
    """Run the command that the first argument names, and return its exit code."""
    programs = (demo, test, lint, page, docs, bench, reliability, simulate, mutants, audit, sbom, release, lock)
    commands = {program.__name__: program for program in programs}
    if not arguments or arguments[0] not in commands:
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"], ["help"]) else 2
    make_environment()
    return commands[arguments[0]](arguments[1:])


def demo(arguments):
    return run_python(["-m", "airflow_kinesis_audience.demo", *arguments])


def bench(arguments):
    compile_packages()
    return run_python(["-m", "tests.benchmarks", *arguments], compiling())


def reliability(arguments):
    return run_python(["-m", "tests.reliability", *arguments], installer_settings())


def simulate(arguments):
    return run_python(["-m", "tests.simulator", *arguments])


def mutants(arguments):
    return run_python(["-m", "tests.mutants", *arguments], installer_settings())


def audit(arguments):
    return run_python(["scripts/sbom.py", "audit", *arguments], installer_settings())


def sbom(arguments):
    return run_python(["scripts/sbom.py", "sbom", *arguments])


def release(arguments):
    return run_python(["scripts/release.py", "build", *arguments])


def page(_):
    return make_page("build")


def docs(_):
    return quietly("the documentation", [PYTHON, "scripts/build_docs.py", "build"], stop=False)


def lint(arguments):
    codes = [quietly(name, [PYTHON, *command, *arguments], stop=False) for name, command in LINTS]
    return max(*codes, docs([]), make_page("build") or make_page("check"))


def test(arguments):
    compile_packages()
    style = max(lint([]), make_page("test"))
    tests = run_python(["-m", "pytest", *SIDE_BY_SIDE, *arguments], compiling())
    if style:
        print("Style, types or the page: see above, before the tests.", file=sys.stderr)
    return tests or style


def make_page(script):
    return quietly(PAGE[script], [PYTHON, "scripts/hatch_build.py", script], stop=False)


def lock(arguments):
    command = [PYTHON, "-m", "uv", *COMPILE.split(), "--custom-compile-command", "python3 run.py lock"]
    return subprocess.run([*command, *arguments], cwd=ROOT, env=installer_settings(), check=False).returncode


def run_python(arguments, variables=None):
    """Run the environment's Python with the terminal as it is, and return its exit code."""
    with subprocess.Popen([PYTHON, *arguments], cwd=ROOT, env=variables or environment()) as process:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue  # the terminal has signalled the program, too; it decides how to end
            return code if code >= 0 else 128 - code


def environment():
    """Return the variables for a program in the environment: what is there, its programs first."""
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "__PYVENV_LAUNCHER__")}
    path = os.pathsep.join(p for p in (str(PYTHON.parent), variables.get("PATH")) if p)
    return {**variables, "PATH": path, "VIRTUAL_ENV": str(VENV), "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def compiling():
    """Return the variables for a program that keeps what Python compiles of the project, as pip does."""
    return {k: v for k, v in environment().items() if k != "PYTHONDONTWRITEBYTECODE"}


def make_environment():
    """Make .venv as requirements.lock says, unless it is so already."""
    wanted = digest()
    if VENV.exists() and not STAMP.exists():
        sys.exit(f"{VENV} is there and was not made by run.py. Move or remove it, and try again.")
    if PYTHON.exists() and STAMP.read_text() == wanted:
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(
            "This Python has no venv or no ensurepip, so it can't make an environment. On Debian and Ubuntu: "
            "apt-get install python3-venv. Then try again."
        )
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    STAMP.write_text("unfinished")
    quietly("making .venv", [sys.executable, "-m", "venv", VENV])
    install_locked()
    editable = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."]
    quietly("installing the project", [PYTHON, "-m", "pip", *editable])
    STAMP.write_text(wanted)


def compile_packages():
    """Compile the packages once: the tests start hundreds of processes, and Airflow takes twice as long without.

    A file that cannot be compiled, such as a template, is left as it is. The packages never change in place.
    """
    done = VENV / "compiled-by-run.py"
    if not done.exists():
        how = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
        quietly("compiling the packages (once)", [PYTHON, *how, VENV / "lib"], stop=False, show=False)
        done.touch()


def digest():
    """Return a text that changes when the environment has to be made anew."""
    parts = (sys.version.encode(), str(ROOT).encode(), LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install_locked():
    """Install requirements.lock with uv, which takes seconds, or with pip where uv can't be had."""
    locked = re.findall(r"^\w.*?(?=^\w|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    label = f"installing {len(locked)} packages (once)"
    exact = ["install", "--quiet", "--no-deps", "--require-hashes", "--requirement", LOCK]
    if fetch_uv(locked):
        command = [PYTHON, "-m", "uv", "pip", *exact, "--python", PYTHON]
        if not quietly(label, command, stop=False, show=False, variables=installer_settings()):
            return
        print("  uv could not install them; pip tries, which takes some minutes", file=sys.stderr)
    quietly(label, [PYTHON, "-m", "pip", *exact])


def fetch_uv(locked):
    """Install the uv that the lock names, and return whether it is there."""
    pins = VENV / "uv.txt"
    pins.write_text("".join(pin for pin in locked if pin.startswith("uv==")))
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", pins]
    return quietly("fetching uv", command, stop=False, show=False) == 0


def installer_settings():
    """Return the variables for uv: pip's own settings in uv's words, because uv does not read pip's files."""
    settings = pip_settings()
    links = settings.get("find-links", "").split()
    hosts = settings.get("trusted-host", "").split()
    translated = {
        "UV_SYSTEM_CERTS": "1",  # as pip does; uv's own certificates know no company's proxy
        "UV_INDEX_STRATEGY": "unsafe-best-match",  # as pip does: the best version of all indices
        "UV_DEFAULT_INDEX": settings.get("index-url"),
        "UV_INDEX": " ".join(settings.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(links),
        "UV_NO_INDEX": "1" if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else None,
        "UV_INSECURE_HOST": " ".join(hosts),
        "UV_HTTP_TIMEOUT": settings.get("timeout", settings.get("default-timeout")),
        "SSL_CERT_FILE": settings.get("cert"),
        "ALL_PROXY": settings.get("proxy"),
    }
    return {**{k: v for k, v in translated.items() if v}, **environment()}


def pip_settings():
    """Return pip's settings by option, as they hold for `pip install`."""
    command = [PYTHON, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False).stdout
    settings = {}
    for section in ("global", "install", ":env:"):  # the later one wins
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(.*)$", listed, re.MULTILINE):
            settings[name] = ast.literal_eval(value)
    return settings


def quietly(label, command, *, stop=True, show=True, variables=None):
    """Run a command behind one line that says how long it takes, and return its exit code.

    Its output is shown when it fails (unless not `show`), and then the program ends (unless not `stop`).
    """
    live = sys.stderr.isatty()
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        where = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=ROOT, env=variables or environment(), **where) as process:
            while process.poll() is None:
                if live:
                    print(f"\r  {label} … {time.monotonic() - started:.0f} s", end="", file=sys.stderr, flush=True)
                time.sleep(0.1)
        code = process.returncode
        verdict = "ok" if code == 0 else "failed"
        line = f"  {label} … {verdict}, {time.monotonic() - started:.0f} s"
        print(f"\r{line:<60}" if live else line, file=sys.stderr, flush=True)
        if code and show:
            output.seek(0)
            print(output.read().decode(errors="replace").rstrip(), file=sys.stderr, flush=True)
    if code and stop:
        sys.exit(f"{label} failed with exit code {code}; its output stands above.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
