"""The check in the call phase, and what a test's report is told of it.

A violation fails the test that broke something, in its call phase: FAILED, never PASSED and then ERROR. It takes the
place of an error that the body ended with, and is raised from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest

from fake_server.secrecy import told
from pytest_claude_tokens.guard import guard
from pytest_claude_tokens.handle.claude_tokens import ClaudeTokens
from pytest_claude_tokens.handle.judgement import replaceable
from pytest_claude_tokens.judge.violations import Unknown, Violation
from pytest_claude_tokens.plugin import exploring, options
from pytest_claude_tokens.report import folder as report_folder
from pytest_claude_tokens.report.evidence import HISTORY, Evidence, attach, evidence_of, findings
from pytest_claude_tokens.report.section import SECTION, section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

__all__ = ["FACTS", "Handle", "judge", "make", "register", "save", "tell"]

FACTS = pytest.StashKey[dict[str, Any]]()
"""In an item: what rides on the report of its call as ``report.claude_tokens``, as JSON would have it."""

_F = TypeVar("_F", bound=Violation | Unknown | None)
_PROPERTY = "claude_tokens"

_OPEN = pytest.StashKey[list["Handle"]]()
_ASIDE = pytest.StashKey[list[Violation]]()


class Handle(ClaudeTokens):
    """A handle that keeps the evidence of what it raises, for the report of the test that runs then.

    ``own``: it is of one test, and its history ends with that test's body.
    """

    def __init__(self, config: pytest.Config, *, own: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.own = own
        self._config = config
        self._looked_at = 0

    def open(self) -> Self:
        """As always; from now on it is looked at whenever a test's body has ended."""
        register(self._config)
        super().open()
        self._config.stash.setdefault(_OPEN, []).append(self)
        return self

    def close(self) -> None:
        """As always."""
        handles = self._config.stash.get(_OPEN, [])
        if self in handles:
            handles.remove(self)
        super().close()

    def check(self) -> None:
        """As always, without our frames in the traceback."""
        __tracebackhide__ = True
        try:
            super().check()
        except (Violation, Unknown) as error:
            found = self._keep(error).with_traceback(None)
        else:
            return
        raise found

    def to_raise(self, error: BaseException | None = None) -> Violation | Unknown | None:
        """As always, with the history on disk before anybody raises it."""
        return self._keep(super().to_raise(error))

    def look(self) -> Violation | None:
        """What was broken since the last look, while the history goes on; further ones are told under the first."""
        if len(self.history) == self._looked_at:
            return None
        self._looked_at = len(self.history)
        first = found = self._next()
        while found is not None:
            found = self._next()
        return self._keep(first)

    def _next(self) -> Violation | None:
        try:
            super().check()
        except Violation as found:
            return found.with_traceback(None)
        except Unknown:
            pass  # at the end more may be known
        return None

    def aside(self) -> Violation | None:
        """What was broken, for the report of a test that has failed by something that must not be replaced."""
        return self._keep(next(iter(self.finish().violations), None))

    def _keep(self, found: _F) -> _F:
        if found is None:
            return found
        known = Evidence(history=self.history.taken())
        save(options.current(self._config), known)
        attach(found, known)
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        try:
            found = self.to_raise(error)
        finally:
            self.close()
        if found is not None:
            raise found from error


def register(config: pytest.Config) -> None:
    """Make this module the judge of the session, and guard the real service from now on."""
    guard.allow_real_hosts(options.real_hosts_allowed(config))
    config.stash[options.JUDGE] = _CallPhase()


@options.tells_usage
def make(request: pytest.FixtureRequest, default: Callable[[], Any], *, own: bool = False, **given: Any) -> Handle:
    """A handle with the settings of the test that runs, and on top of them those that are ``given``.

    ``default`` is asked for the policy where neither they nor a marker name one. Raises :class:`pytest.UsageError`.
    """
    __tracebackhide__ = True
    item = options.current(request.config)
    try:
        settings = options.merge(options.marked(item), {k: v for k, v in given.items() if v is not None})
        if "policy" not in settings:
            settings = options.merge(settings, {"policy": default()})
        return Handle(request.config, own=own, **settings)
    except ValueError as error:
        raise pytest.UsageError(told(f"{item.nodeid}: {request.fixturename} {error}")) from None


# The check.


def judge(item: pytest.Item, error: BaseException | None) -> BaseException | None:
    """What the body of ``item``, which ended with ``error``, is to fail with instead; ``None``: it stays as it is."""
    handles = list(item.config.stash.get(_OPEN, ()))
    if not handles:
        return None
    kept = _kept_by_unittest(item)
    if error is None and kept:
        error = kept[0].value
    disappointed = error is not None and _is_unexpected_success(item, error)
    if disappointed:
        error = None
    if error is not None and not replaceable(error):
        if type(error) is pytest.fail.Exception:  # such as a time-out: told beside it
            item.stash[_ASIDE] = [beside for handle in handles if handle.own and (beside := handle.aside())]
        return None
    looks: Iterator[BaseException | None] = (
        handle.to_raise(error) if handle.own else handle.look() for handle in handles
    )
    found = next(filter(None, looks), None)
    if found is None:
        return None
    found.__cause__ = error
    if disappointed:
        found = _as_expected(found)
    if kept:
        kept[0] = _raised(found)
    return found


def _kept_by_unittest(item: pytest.Item) -> list[pytest.ExceptionInfo[BaseException]]:
    """How the method of a ``unittest.TestCase`` ended: that is not raised, but kept for the report."""
    return getattr(item, "_excinfo", None) or []


def _is_unexpected_success(item: pytest.Item, error: BaseException) -> bool:
    """Whether ``unittest.expectedFailure`` was disappointed by the body; what it expects may be a violation."""
    marks = (getattr(item, name, None) for name in ("obj", "cls"))
    expecting = any(getattr(mark, "__unittest_expecting_failure__", False) for mark in marks)
    return expecting and type(error) is pytest.fail.Exception


def _as_expected(found: BaseException) -> BaseException:
    outcome = pytest.xfail.Exception(f"{type(found).__name__}: {found}")
    outcome.__cause__ = found
    return outcome


def _raised(error: BaseException) -> pytest.ExceptionInfo[BaseException]:
    __tracebackhide__ = True
    try:
        raise error
    except BaseException:  # noqa: BLE001 - it may be any, and is handed on
        return pytest.ExceptionInfo.from_current()


class _CallPhase:
    """The judge that the hooks of the plugin ask (:class:`~pytest_claude_tokens.plugin.options.Judge`)."""

    def judge(self, item: pytest.Item, error: BaseException | None) -> BaseException | None:
        return judge(item, error)

    def tell(self, item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
        tell(item, error, made)


# The report.


def save(item: pytest.Item, known: Evidence) -> None:
    """Write the folder of a failure of ``item``, and note in ``known`` where it is."""
    try:
        folder = report_folder.save(options.report_folder(item.config), item.nodeid, known)
    except OSError as error:
        known.folder, known.trouble = None, f"no history was written: {error.strerror or error}"
    else:
        start = item.config.invocation_params.dir
        known.folder = str(folder.relative_to(start) if folder.is_relative_to(start) else folder)


def tell(item: pytest.Item, error: BaseException | None, made: pytest.TestReport) -> None:
    """Put what was found into the report of a phase of ``item``, which ended with ``error``."""
    called = made.when == "call"
    found = [*findings(error), *(item.stash.get(_ASIDE, ()) if called else ())]
    facts = item.stash.get(FACTS, {}).copy() if called else {}
    for number, one in enumerate(found, 1):
        known = evidence_of(one)
        assert known is not None
        known.name = HISTORY if number == 1 else f"history-{number}.jsonl"
        save(item, known)
        text = section(one)
        text = text if one is error else f"{_headline(one)}\n{text}"
        # A section of the `longrepr` is shown whatever --show-capture says.
        add = getattr(made.longrepr, "addsection", lambda *new: made.sections.append(new))
        add(SECTION, text)
        if _is_ours(one):
            facts.setdefault("violations", []).append(_headline(one))
    if made.when == "setup":  # perhaps not the first one
        item.user_properties[:] = [pair for pair in item.user_properties if pair[0] != _PROPERTY]
    properties = [(_PROPERTY, headline) for headline in facts.get("violations", ())]
    item.user_properties += properties  # what JUnit's file is made of: the report of the teardown takes them from here
    made.user_properties += properties
    if facts:
        made.__dict__["claude_tokens"] = {"test": item.nodeid, **facts}
    first = found[0] if found else error
    if first is not None and (found or (called and exploring.is_explored(item))):
        _shorten(item, error, first, made.longrepr)


def _is_ours(finding: BaseException) -> bool:
    """Not, where a search shows the schedule in which the body failed by itself, or was refused the real service."""
    return isinstance(finding, AssertionError) and type(finding).__module__ == "claude_tokens"


def _headline(finding: BaseException) -> str:
    return f"{type(finding).__module__}.{type(finding).__name__}: {finding}".removeprefix("builtins.")


def _shorten(item: pytest.Item, error: BaseException | None, first: BaseException, longrepr: Any) -> None:
    """Of what was raised here no line of code is worth showing; and a group's own message says nothing."""
    if not getattr(longrepr, "chain", None):
        return  # `--tb=native`
    from _pytest._code.code import ReprFileLocation  # pytest gives no other way to say where and what

    trace, _, description = longrepr.chain[-1]
    collapsed = error is first and trace.extraline is not None  # "All traceback entries are hidden"
    if collapsed or isinstance(error, BaseExceptionGroup):
        trace.extraline = None
        crash = ReprFileLocation(str(item.path), (item.location[1] or 0) + 1, _headline(first))
        longrepr.chain[-1] = (trace, crash, description)
        longrepr.reprcrash = crash
