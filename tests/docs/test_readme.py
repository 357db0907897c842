"""What README and docs say is run: every block of Python as a user would, every picture compared with what is printed.

A Python block begins with a comment that names its file. A comment before it says where it is meant to fail:
`<!-- fails: claude_tokens.DoubleSpend -->`. A picture says what printed it: `<!-- printed by: test_it.py -->`; that
output has its lines one after the other, but for what stands behind `ct1-`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fake_server.policy import PRESETS
from pytest_claude_tokens.cli.main import COMMANDS
from pytest_claude_tokens.plugin.marker import KEYWORDS
from pytest_claude_tokens.plugin.options import OPTIONS
from pytest_claude_tokens.report.advice import RULES
from pytest_claude_tokens.violations import INVARIANTS, VIOLATIONS
from tests.plugin.inner import settle

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")) if path.exists())
needs_pages = pytest.mark.skipif(
    not (ROOT / "README.md").exists(), reason="README.md is not installed; run this in a checkout"
)

BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w/.]+\.py)\n")
OPTIONAL = ("aiohttp", "anthropic", "httpx2")

# Out here, once: an inner run forgets what it imports, and libraries in C don't like to be loaded twice.
for name in (
    "fake_server.transports.inprocess",
    "fake_server.transports.proxy",
    "fake_server.transports.sockets",
    "pytest_claude_tokens.plugin.call_phase",
    "trustme",
):
    with suppress(ImportError):
        importlib.import_module(name)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. ``mark``: the comment before it."""

    line: int
    mark: str
    kind: str
    text: str

    @property
    def file(self) -> str:
        """The file that it says it is."""
        named = NAMED.match(self.text)
        assert named, f"line {self.line}: a block of Python begins with a comment that names its file"
        return named[1]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["mark"] or "", found["kind"], found["text"])
        for found in BLOCK.finditer(text)
    ]


def examples_on(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.kind == "python" and block.file.startswith("test_")]


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """As a user has it: warnings are errors, nothing else is set; at 100 columns, outside of CI."""
    settle(monkeypatch, "-p no:cacheprovider -W error")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.syspathinsert()
    return pytester


def write(pytester: pytest.Pytester, page: Path) -> None:
    for block in blocks(page):
        if block.kind == "python":
            (pytester.path / block.file).write_text(block.text, encoding="utf-8")


ELSEWHERE = ("concurrency-model.md", "other-languages.md")
"""Pages that have a test of their own."""
EVERY_TEST = [(page, block) for page in PAGES if page.name not in ELSEWHERE for block in examples_on(page)]


@pytest.mark.parametrize(("page", "block"), EVERY_TEST, ids=[f"{page.stem}-{block.file}" for page, block in EVERY_TEST])
def test_each_block_does_what_its_page_says(page, block, pytester):
    """It passes, or fails with the violation that is named; and what the page shows of its output is printed."""
    for name in OPTIONAL:
        if re.search(rf"^(import|from) {name}\b", block.text, re.MULTILINE) and importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    write(pytester, page)
    result = pytester.runpytest(block.file)
    if block.mark:
        violation = re.fullmatch(r"fails: (claude_tokens\.\w+)", block.mark)
        assert violation, f"line {block.line}: no such mark"
        assert result.ret == 1
        result.stdout.fnmatch_lines([f"E   {violation[1]}: *"])
    else:
        assert result.ret == 0
    for picture in blocks(page):
        if picture.mark == f"printed by: {block.file}":
            _compare(picture.text.splitlines(), result.outlines)


def _compare(picture, printed):
    """The lines of ``picture`` follow one another in ``printed``."""
    first = next((n for n, line in enumerate(printed) if _same(line, picture[0])), None)
    assert first is not None, f"not printed: {picture[0]}"
    for shown, line in zip(printed[first:], picture, strict=False):
        assert _same(shown, line), f"printed is {shown!r}, and the page has {line!r}"


def _same(shown: str, line: str) -> bool:
    """A command is told as people type it, as the inner run was started another way."""
    shown = re.sub(r"^replay  \S+ -m pytest ", "replay  pytest ", shown)
    pattern = re.escape(line).replace(re.escape("ct1-..."), "ct1-.*")
    return re.fullmatch(pattern, shown.rstrip()) is not None


@needs_pages
def test_every_mark_is_one_that_is_read():
    """A comment before a block is not there in vain."""
    for page in PAGES:
        if page.name in ELSEWHERE:
            continue
        files = {block.file for block in examples_on(page)}
        for block in blocks(page):
            if block.mark.startswith("printed by: "):
                assert block.mark.partition(": ")[2] in files
            else:
                assert not block.mark or (block.kind == "python" and block.mark.startswith("fails: "))


@needs_pages
def test_the_mended_dispatcher_passes_and_so_does_the_replay_of_its_bug(pytester):
    """As README says below its picture."""
    write(pytester, ROOT / "README.md")
    found = pytester.runpytest("test_dispatcher.py")
    [token] = set(re.findall(r"--claude-tokens-replay=(ct1-[\w-]+)", found.stdout.str()))
    assert pytester.runpytest("test_dispatcher.py", f"--claude-tokens-replay={token}").ret == 1
    path = pytester.path / "test_dispatcher.py"
    text = path.read_text(encoding="utf-8")
    body = text[text.index("    async def bearer") : text.index("@explore")]
    renamed = body.replace("async def bearer", "async def unlocked")
    locked = "    async def bearer(self):\n        async with self.lock:\n            return await self.unlocked()\n\n"
    mended = text.replace(body, renamed.rstrip() + "\n\n" + locked + "\n")
    mended = mended.replace(
        "self.access, self.refresh, self.expires = acc",
        "self.lock = asyncio.Lock()\n        self.access, self.refresh, self.expires = acc",
        1,
    )
    path.write_text(mended.replace("import time\n", "import asyncio\nimport time\n", 1), encoding="utf-8")
    for arguments in ((), (f"--claude-tokens-replay={token}",)):
        result = pytester.runpytest("test_dispatcher.py", *arguments)
        result.assert_outcomes(passed=1)


# What is named is there, and what is there is named.


@needs_pages
def test_start_has_two_commands_of_one_line():
    """The first runs the demonstration, the second the tests; each makes what it needs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text.partition("\n## Start\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    commands = re.findall(r"^```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    for command, end in zip(commands, ("claude-tokens demo", "python -m pytest -n 2"), strict=True):
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/python -m pip install -q -e ")
        assert command.rstrip().endswith(f".venv/bin/{end}")


@needs_pages
def test_readme_names_every_option_keyword_policy_command_and_invariant():
    """None is forgotten."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    marker = re.search(r"`@pytest\.mark\.claude_tokens\((.*?)\)`", text)
    assert marker
    assert re.findall(r"(\w+)=", marker[1]) == list(KEYWORDS)
    for option in OPTIONS:
        assert f"`{option.flag}" in text
    for name in (*PRESETS, *INVARIANTS):
        assert f"`{name}`" in text
    for command in COMMANDS:
        assert f"claude-tokens {command.name}" in text


@needs_pages
def test_every_option_and_command_that_a_page_names_is_there():
    """Nothing is promised that can't be typed."""
    flags = {option.flag for option in OPTIONS}
    names = {command.name for command in COMMANDS}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"--claude-tokens-[a-z-]+[a-z]", text)) <= flags, page
        assert set(re.findall(r"(?:`|/|^)claude-tokens ([a-z]+)", text, re.MULTILINE)) <= names, page


@needs_pages
def test_the_page_of_invariants_has_each_in_order():
    """With its exception, and in the order in which ties are broken."""
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\| `(\w+)`", (ROOT / "docs/invariants.md").read_text("utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == list(INVARIANTS) == list(RULES)
    assert [kind for _, kind in rows] == [VIOLATIONS[name].__name__ for name in INVARIANTS]


@needs_pages
def test_every_link_within_the_repository_leads_somewhere():
    """Relative links of all pages."""
    pages = (*PAGES, *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")))
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
