"""What must hold before a change lands, session by session: `nox -l` lists them, `nox -s lint` runs one.

`.ci/run` runs those with the tag `ci`, on a clean copy of the working tree. What stands behind `--` goes to pytest:
`nox -s tests-3.13 -- -k lease`. A session whose Python or tool this machine lacks is skipped, and says what is missing.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.8.10"  # the first with --parallel
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "readme"]

ROOT = Path(__file__).parent
NODE_PACKAGES = ("proper-lockfile@4.1.2", "@anthropic-ai/sdk@1", "@modelcontextprotocol/sdk@1")
LINTERS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports", "--no-logo", "--no-cache"),
    ("python", ".ci/line_limits.py"),
    ("python", ".ci/site/build.py"),
    ("pytest", "-q", "-p", "no:cacheprovider", "tests/typing"),  # pyright
)

# Output is compared to the letter, and Hypothesis and pytest print more where CI is set. The other names would change
# what is imported, measured or collected; the real CLI has 250 MB and is not ours to bring. Without its cached bytecode
# each of some hundred processes compiles all that it imports.
for _name in (
    "CI",
    "CLAUDE_TOKENS_REAL_CLAUDE",
    "PYTEST_ADDOPTS",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
):
    os.environ.pop(_name, None)
for _name in [name for name in os.environ if name.startswith("COVERAGE_")]:
    del os.environ[_name]
os.environ |= {
    "HYPOTHESIS_PROFILE": "ci",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_QUIET": "1",  # with -q: errors only
    "PIP_ROOT_USER_ACTION": "ignore",
}
# A job in the background of a shell starts with SIGINT ignored, and so do all its children: the tests that interrupt a
# program would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# nox stops its sessions with SIGTERM: as an interruption it lets them remove their temporary folders.
signal.signal(signal.SIGTERM, signal.default_int_handler)


# --- Pythons ------------------------------------------------------------------------------------------------------


def interpreter(python: str) -> tuple[str, str]:
    """The version ("3.12") and the path of an interpreter; both empty where it doesn't run, as a shim of pyenv."""
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable, sep='\\n')"
    try:
        done = subprocess.run([python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "", ""
    version, path = done.stdout.decode().splitlines()
    return version, path


def find_python(version: str) -> str | None:
    """The path of a Python of ``version``, from PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [f"python{version}", *map(str, pyenv.glob(f"versions/{version}*/bin/python{version}"))]
    return next((path for found, path in map(interpreter, candidates) if found == version), None)


PROMISED = nox.project.python_versions(nox.project.load_toml(ROOT / "pyproject.toml"))
"""The versions of Python that the classifiers name, the oldest first."""
FOUND = {version: path for version in PROMISED if (path := find_python(version))}
OLDEST = PROMISED[0]
NEWEST = max(FOUND, key=PROMISED.index, default=PROMISED[-1])


def have(session: nox.Session, version: str) -> None:
    """Skip the session, and say why, where this machine has no Python of that version."""
    if version not in FOUND:
        session.skip(f"no Python {version} on PATH or in pyenv, so nothing was run with it")


# --- what the sessions share --------------------------------------------------------------------------------------


def run_all(session: nox.Session, *commands: tuple[str, ...], env: Mapping[str, str | None]) -> None:
    """Run each command, also after one has failed: a person wants to see all that is wrong at once."""
    failed = []
    for command in commands:
        try:
            session.run(*command, env=env)
        except CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@contextmanager
def processor_time(session: nox.Session) -> Iterator[None]:
    """Say how much of it the block took: unlike the time that passed, it can be compared between busy machines."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    try:
        yield
    finally:
        session.log(f"took {used() - before:.0f} s of processor time")


def helper(session: nox.Session, script: str, *arguments: str) -> str:
    """What a script of `.ci` prints, run by the Python of nox."""
    printed = session.run(sys.executable, str(ROOT / ".ci" / script), *arguments, external=True, silent=True)
    return str(printed or "")


def environment(session: nox.Session) -> dict[str, str | None]:
    """For a run of the suite: the user's PATH, without the folder that nox puts in front, and npm's packages."""
    modules = session.cache_dir / "npm" / "node_modules"
    names = {"PATH": os.environ["PATH"], "VIRTUAL_ENV": None}
    return names | ({"CLAUDE_TOKENS_NODE_MODULES": str(modules)} if modules.exists() else {})


def run_suite(session: nox.Session, *parts: str, profile: str = "ci") -> None:
    """Run the suite, or parts of it, where no checkout can be imported, against what the session has installed.

    ``profile`` is one of Hypothesis's in `tests/conftest.py`.
    """
    with tempfile.TemporaryDirectory(prefix="suite.") as folder:
        for part in ("tests", "examples"):
            shutil.copytree(ROOT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        python = Path(session.bin) / "python"
        with session.chdir(folder):
            session.run("python", "-c", WHERE, *RELEASES)
            command = (str(python), "-m", "pytest", "-q", "-n2", *parts, *session.posargs)
            with processor_time(session):
                session.run(*command, env=environment(session) | {"HYPOTHESIS_PROFILE": profile})


RELEASES = ("pytest", "hypothesis", "respx", "httptools", "anthropic", "aiohttp")
WHERE = """
import importlib.metadata, importlib.util, sys
for name in ("pytest_claude_tokens", "fake_server"):
    origin = importlib.util.find_spec(name).origin
    if "site-packages" not in origin:
        sys.exit(f"{name} comes from {origin}, not from the wheel")
print("Python", sys.version.split()[0], *(f"{name} {importlib.metadata.version(name)}" for name in sys.argv[1:]))
"""


def readme_command() -> str:
    """The second fenced block under `## Start` of the README, word for word."""
    _, _, rest = ("\n" + (ROOT / "README.md").read_text(encoding="utf-8")).partition("\n## Start\n")
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```\w*\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    if len(blocks) < 2:
        raise ValueError("README.md needs a section `## Start` with two fenced blocks: the demo, then the tests")
    return str(blocks[1]).strip()


# --- sessions, in the order in which `.ci/run` starts them: the longest first -------------------------------------


@nox.session(venv_backend="none", tags=["ci"])
def npm(session: nox.Session) -> None:
    """Bring the packages for tests with clients in Node; a test whose package is missing skips."""
    if not shutil.which("npm") or not shutil.which("node"):
        session.skip(
            "THERE IS NO npm (or no node) ON THIS MACHINE: nothing is tried with clients in Node, nor with the "
            "original proper-lockfile. Install Node >= 18 with npm, and run this again"
        )
    place = session.cache_dir / "npm"
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--loglevel=error")
    session.run("npm", "install", "--prefix", str(place), *quiet, *NODE_PACKAGES)
    session.run("node", "--version")
    session.run("npm", "ls", "--prefix", str(place), "--depth=0")


@nox.session(venv_backend="none", tags=["ci"])
def debian(session: nox.Session) -> None:
    """Bring a browser, which looks at the timeline as a person does, and Redis; a test without its program skips."""
    browsers = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    wanted = [names[0] for names in (browsers, ("redis-server",)) if not any(map(shutil.which, names))]
    if wanted:
        without = f"NO {' AND NO '.join(wanted)} HERE: their tests are skipped. Install them, and run this again"
        if not shutil.which("apt-get") or os.geteuid():
            session.skip(f"{without} (no apt-get here, or not root)")
        patient = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=2")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            session.run(*patient, "update", silent=True, env=environment)
            session.run(*patient, "install", "-y", "--no-install-recommends", *wanted, silent=True, env=environment)
        except CommandFailed:
            session.skip(f"{without} (apt-get could not install them)")
    session.run(next(filter(shutil.which, browsers)), "--version", "--no-sandbox")
    session.run("redis-server", "--version")


@nox.session(python=FOUND.get(OLDEST), tags=["ci"])
def build(session: nox.Session) -> None:
    """Build the sdist, and from it the wheel that the other sessions install."""
    session.install("build")
    shutil.rmtree(session.cache_dir / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(session.cache_dir / "dist"), silent=True)
    session.log(", ".join(sorted(path.name for path in (session.cache_dir / "dist").iterdir())))


def run_as_newcomer(session: nox.Session, *before: str, after: tuple[tuple[str, ...], ...] = ()) -> None:
    """Run the README's test command in a checkout of its own, with ``before`` in front, and then ``after``."""
    with tempfile.TemporaryDirectory(prefix="newcomer.") as folder:
        place = Path(folder, "checkout")
        helper(session, "copy_tree.py", str(place))
        with session.chdir(place), processor_time(session):
            session.log(f"$ {readme_command()}")
            run_all(session, (*before, "bash", "-c", readme_command()), *after, env=environment(session))


@nox.session(venv_backend="none", requires=["npm", "debian"], tags=["ci"])
def readme(session: nox.Session) -> None:
    """Run the README's test command as a newcomer types it."""
    run_as_newcomer(session)


@nox.session(venv_backend="none", requires=["npm", "debian"])
def coverage(session: nox.Session) -> None:
    """Run it once more, and measure the coverage of that very run, which takes half as long again."""
    measuring = (".venv/bin/python", "-m", "coverage")
    # The `.pth` file of coverage, which comes with the README's `test`, starts it in each process that finds this.
    run_as_newcomer(
        session,
        *("bash", "-c", 'COVERAGE_PROCESS_START=$PWD/pyproject.toml exec "$@"', "measured"),
        after=((*measuring, "combine", "-q"), (*measuring, "report")),
    )


DEPENDENT = [
    "tests/plugin",
    "tests/unit/transports",
    *map("tests/unit/explore/test_{}.py".format, ("examples", "hypothesis_engine", "phases", "portfolio", "rolling")),
    *map("tests/unit/explore/test_{}.py".format, ("settings", "shrink", "stateful", "strategies", "usage", "workers")),
    *map("--ignore=tests/plugin/test_{}.py".format, ("explore_company", "explore_processes")),
    *map("--ignore=tests/plugin/test_{}.py".format, ("pasted_secrets", "the_judge_is_there")),
]
"""The tests of what releases of a requirement may change: pytest, Hypothesis, httpx, respx. The rest is the standard
library's.
"""

INSIDE = (
    *("tests/unit/simulation", "tests/unit/guard"),
    *map("--ignore=tests/unit/simulation/test_{}.py".format, ("patched_names", "determinism")),
)
"""The tests of what reaches into the interpreter and its asyncio, which differ from one Python to the next."""


@nox.session(python=FOUND.get(OLDEST), tags=["ci"])
def lowest(session: nox.Session) -> None:
    """Run what depends on requirements with each of them at its declared floor, on the oldest Python."""
    have(session, OLDEST)
    floors = session.cache_dir / "floors.txt"  # not in `create_tmp()`, which would be the tests' TMPDIR from then on
    floors.write_text(helper(session, "floors.py"), encoding="utf-8")
    constrained = ("--constraint", str(floors))
    session.install("hatchling", *constrained)  # the build has a floor, too
    session.install("--no-build-isolation", *constrained, ".[all,test]")
    run_suite(session, *DEPENDENT)


@nox.session(python=FOUND.get(NEWEST), requires=["npm", "build"], tags=["ci"])
def newest(session: nox.Session) -> None:
    """Run published clients with the newest release of each, on the newest Python found."""
    have(session, NEWEST)
    eager = () if session.venv_backend == "uv" else ("--upgrade-strategy", "eager")  # uv knows no other
    install_wheel(session, "--upgrade", *eager, extras="all,test,clients")
    run_suite(session, *INSIDE, "tests/unit/explore/test_preempting.py", "tests/interop", "examples/test_sdk.py")


def install_wheel(session: nox.Session, *options: str, extras: str = "all,test") -> None:
    """Install the wheel that the session `build` has left."""
    (wheel,) = (session.cache_dir / "dist").glob("*.whl")
    session.install(*options, f"{wheel}[{extras}]")


DRAWN = ("tests/zoo", "tests/property")
"""The tests that say more, the more examples they draw."""


def tests_with(version: str) -> None:
    """Add the sessions `tests-VERSION`, the whole suite, and `inside-VERSION`, the tests in INSIDE."""

    def add(name: str, doc: str, tags: list[str], *parts: str) -> None:
        @nox.session(name=name, python=FOUND.get(version, False), requires=["npm", "debian", "build"], tags=tags)
        def tests(session: nox.Session) -> None:
            have(session, version)
            install_wheel(session)
            run_suite(session, *parts)

        tests.__doc__ = doc

    add(f"tests-{version}", f"Run the suite against the wheel with Python {version}.", [])
    # The README's command and `newest` run the whole suite already; with every Python it would take half an hour.
    tags = [] if version in (NEWEST, interpreter("python3")[0]) else ["ci"]
    add(f"inside-{version}", f"Run what reaches into the interpreter with Python {version}.", tags, *INSIDE)


for _version in PROMISED:
    tests_with(_version)


@nox.session(python=FOUND.get(NEWEST), requires=["npm", "build"])
def nightly(session: nox.Session) -> None:
    """Run what is too long for each push: the tests marked `nightly`, and those that draw with 2,000 examples each."""
    session.notify("mutants")
    have(session, NEWEST)
    install_wheel(session)
    failed = False
    for parts in (("-m", "nightly"), DRAWN):
        try:
            run_suite(session, *parts, profile="nightly")
        except CommandFailed:
            failed = True  # the other part runs all the same: a night is long
    if failed:
        session.error("see the failures above")


@nox.session(python=FOUND.get(OLDEST))
def mutants(session: nox.Session) -> None:
    """Break the authority, the gate, the judge and the replay tokens on purpose: a fast test must fail each time."""
    have(session, OLDEST)
    session.install("-e", ".[all,test]", "mutmut~=3.8.0")  # its results are read from inside
    with processor_time(session):
        session.run("python", ".ci/mutants/run.py", *session.posargs)


@nox.session(python=FOUND.get(OLDEST), tags=["ci"])
def lint(session: nox.Session) -> None:
    """Run the linters: style, types, layers, the length of files, the links of the documentation."""
    session.install("-e", ".[all,test,dev]")
    caches = session.cache_dir
    run_all(session, *LINTERS, env={"RUFF_CACHE_DIR": str(caches / "ruff"), "MYPY_CACHE_DIR": str(caches / "mypy")})
