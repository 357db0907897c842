"""Build the documentation's site in the folder named: the pages of the tree, as they are, and a reference.

Warnings are errors: a link to nowhere, a docstring that is no reStructuredText. Without a folder that is all it does.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PUBLIC", "SECTIONS", "build", "collect"]

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = (
    "pytest_claude_tokens",
    "pytest_claude_tokens.violations",
    "pytest_claude_tokens.strategies",
    "pytest_claude_tokens.stateful",
    "pytest_claude_tokens.lease",
    "pytest_claude_tokens.layouts",
    "pytest_claude_tokens.workarounds",
    "fake_server",
    "fake_server.events",
)
"""The modules of which users import names."""
SECTIONS = {
    "Your tests": "fixtures explore threads invariants reading-a-failure timeline history how-the-search-works",
    "Your scripts": "run fake-claude layouts other-languages concurrency-model bearer-serialization",
    "Workarounds": "workarounds validate-your-own one-or-many scenarios field-report",
    "The service": "policies services states connection promises",
}
"""The pages of ``docs/``, in the order in which a reader wants them."""
_PAGES = ("*.md", "docs/*.md", "examples/*/README.md", "tests/README.md", "benchmarks/README.md")
_LINK = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")


def collect(target: Path) -> None:
    """Copy each page with the files that it links to, write ``reference.rst``, and give the front page its contents.

    The folder mirrors the tree, so a link from one page to another is the same in both.
    """
    for page in sorted(path for pattern in _PAGES for path in ROOT.glob(pattern)):
        linked = [page.parent / link for link in _LINK.findall(page.read_text(encoding="utf-8"))]
        for path in (page, *filter(Path.is_file, linked)):
            copy = target / path.resolve().relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    (target / "reference.rst").write_text("\n".join(_reference()), encoding="utf-8")
    with (target / "README.md").open("a", encoding="utf-8") as front:
        for caption, pages in SECTIONS.items():
            front.write(_contents(caption, [f"docs/{page}" for page in pages.split()]))
        examples = sorted(str(page.relative_to(target)) for page in target.glob("examples/*/README.md"))
        front.write(_contents("Examples", examples))
        others = ["reference", "CONTRIBUTING", "ARCHITECTURE", "tests/README", "benchmarks/README", "CHANGELOG"]
        front.write(_contents("More", others))


def _reference() -> Iterator[str]:
    """A page with the docstring of each public name, in reStructuredText."""
    yield from ("Reference", "=========")
    for module in PUBLIC:
        title = f"``{module}``"
        yield from ("", title, "-" * len(title), "", f".. automodule:: {module}", "   :no-members:", "")
        source = importlib.import_module(module)
        for name in source.__all__:
            value = getattr(source, name)  # some are imported when they are asked for
            if isinstance(value, type) and issubclass(value, BaseException):
                # Users catch these, and raise none.
                yield from (f".. autoexception:: {module}.{name}()", "   :no-members:", "")
            else:
                kind = "class" if isinstance(value, type) else "function" if callable(value) else "data"
                yield from (f".. auto{kind}:: {module}.{name}", "")


def _contents(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def build(site: str | None) -> int:
    """The exit status of Sphinx."""
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder, "pages")
        collect(pages)
        into = site or str(Path(folder, "site"))
        options = ("-q", "-W", "--keep-going", "-d", str(Path(folder, "doctrees")), "-c", str(Path(__file__).parent))
        return subprocess.run([sys.executable, "-m", "sphinx", *options, str(pages), into], check=False).returncode


if __name__ == "__main__":
    sys.exit(build(sys.argv[1] if len(sys.argv) > 1 else None))
