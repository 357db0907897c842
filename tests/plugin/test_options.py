"""Options and the marker: which of several wins, and what a wrong one is told."""

from __future__ import annotations

import pytest

from pytest_claude_tokens.plugin import marker, options


@pytest.mark.parametrize(
    ("command_line", "marker", "ini", "default", "wins"),
    [
        ("c", "m", "i", "d", "c"),
        (None, "m", "i", "d", "m"),
        (None, None, "i", "d", "i"),
        (None, None, None, "d", "d"),
        (None, None, None, None, None),
        (0, "m", "i", "d", 0),
        (None, False, True, True, False),
    ],
)
def test_the_command_line_beats_the_marker_beats_the_ini_file_beats_the_default(
    command_line, marker, ini, default, wins
):
    """The first source that says anything is obeyed, whatever it says."""
    assert options.first_given(command_line, marker, ini, default) == wins


@pytest.mark.parametrize(
    ("arguments", "ini", "folder"),
    [
        ([], "", ".claude-tokens"),
        ([], "claude_tokens_report_dir = from-ini", "from-ini"),
        (["--claude-tokens-report-dir=from-line"], "claude_tokens_report_dir = from-ini", "from-line"),
    ],
)
def test_the_folder_of_reports_follows_that_precedence(pytester, arguments, ini, folder):
    """The folder is asked for on the command line, else in the ini file."""
    pytester.makeini(f"[pytest]\n{ini}")
    config = pytester.parseconfigure(*arguments)

    assert options.report_folder(config) == pytester.path / folder


def test_a_folder_from_the_command_line_is_relative_to_where_pytest_was_called(pytester, monkeypatch):
    """What is typed means what a shell would take it for; what is in the ini file is the project's."""
    pytester.makeini("[pytest]\nclaude_tokens_report_dir = from-ini")
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)

    assert options.report_folder(pytester.parseconfigure("--claude-tokens-report-dir=mine")) == below / "mine"
    assert options.report_folder(pytester.parseconfigure(below)) == pytester.path / "from-ini"


def test_a_value_that_cannot_be_read_is_a_usage_error_that_says_where_it_is_from(pytester, monkeypatch):
    """The parser's reason is shown beside the option and what was given for it."""

    def parse(text: str) -> int:
        raise ValueError(f"{text} is no number")

    row = options.Option(name="report-dir", metavar="N", help="…", parse=parse)
    with monkeypatch.context() as patched:  # the run of this very test has its options, too
        patched.setattr(options, "OPTIONS", (row,))
        patched.setattr(options, "_BY_NAME", {"report-dir": row})
        given = pytester.runpytest("--claude-tokens-report-dir=many")
        pytester.makeini("[pytest]\nclaude_tokens_report_dir = few")
        from_file = pytester.runpytest()

    assert (given.ret, from_file.ret) == (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.USAGE_ERROR)
    given.stderr.fnmatch_lines("ERROR: --claude-tokens-report-dir=many: many is no number")
    from_file.stderr.fnmatch_lines("ERROR: claude_tokens_report_dir=few: few is no number")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("--claude-tokens-examples=0", "must be at least 1"),
        ("--claude-tokens-examples=many", "must be a whole number"),
        ("--claude-tokens-html=sometimes", "must be one of always, failed, never"),
        ("--claude-tokens-seed=x", "must be a whole number"),
        ("--claude-tokens-replay=nonsense", "*nonsense*"),
    ],
)
def test_a_bad_value_is_refused_before_anything_runs(pytester, given, complaint):
    """Exit status 4, and what is wanted."""
    result = pytester.runpytest(given)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: {given}: {complaint}")


def test_good_values_are_read(pytester):
    """As what they are."""
    config = pytester.parseconfigure("--claude-tokens-examples=5", "--claude-tokens-seed=-3")

    assert (options.option(config, "examples"), options.option(config, "seed")) == (5, -3)
    assert options.option(config, "replay") is None


def test_options_and_marker_are_in_the_help(pytester):
    """`--help` and `--markers` say what there is."""
    result = pytester.runpytest("--help")
    result.stdout.fnmatch_lines(["fake Claude token service:", "*--claude-tokens-report-dir=DIR*"])
    result.stdout.fnmatch_lines(["*claude_tokens_report_dir (string):*", "*claude_tokens_allow_real_hosts (bool):*"])

    pytester.runpytest("--markers").stdout.fnmatch_lines("@pytest.mark.claude_tokens([*], policy, service, allow,*): *")


def test_real_hosts_are_refused_unless_the_ini_file_allows_them(pytester):
    """The default is the safe one."""
    assert not options.real_hosts_allowed(pytester.parseconfigure())
    pytester.makeini("[pytest]\nclaude_tokens_allow_real_hosts = true")
    assert options.real_hosts_allowed(pytester.parseconfigure())


def marked(pytester: pytest.Pytester, source: str) -> dict[str, object]:
    """What the markers of the only test in `source` come to."""
    return marker.marked(pytester.getitem(source, "test_it") if "class" not in source else method(pytester, source))


def method(pytester: pytest.Pytester, source: str) -> pytest.Item:
    (item,) = pytester.getitems(source)
    return item


def test_markers_merge_from_module_to_function(pytester):
    """Lists are joined without repetition; of other values the innermost counts."""
    source = """
        import pytest
        pytestmark = pytest.mark.claude_tokens(allow=["co-schedule"], limit=1, latency=2, hosts=["a.invalid"])

        @pytest.mark.claude_tokens(allow=["token-leak", "co-schedule"], limit=2)
        class TestIt:
            @pytest.mark.claude_tokens(policy="gateway", limit=3, hosts=("b.invalid",))
            def test_it(self): ...
    """
    found = marked(pytester, source)

    assert found["allow"] == ["co-schedule", "token-leak"]
    assert found["hosts"] == ["a.invalid", "b.invalid"]
    assert (found["limit"], found["latency"]) == (3, 2)
    assert found["policy"].name == "gateway"


def test_a_test_without_a_marker_has_nothing_set(pytester):
    """No marker, no settings: defaults are made elsewhere."""
    assert marked(pytester, "def test_it(): ...") == {}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("'gateway'", "has no positional argument such as 'gateway'; it takes policy, service, allow, limit, *"),
        (
            "polcy='gateway'",
            "has no argument 'polcy' (did you mean policy?); it takes policy, service, allow, *",
        ),
        ("allow='double-spend'", "allow='double-spend': must be a list"),
        ("allow=['double-spent']", "allow: no invariant is named 'double-spent'; they are double-spend, *"),
        ("policy='gatway'", "no policy is named 'gatway'; choose one of anthropic, *"),
        ("policy=5", "policy=5: must be a Policy or the name of one: anthropic, *"),
        ("allow=[[]]", "allow: no invariant is named [[][]]; they are double-spend, *"),
        ("limit=0", "limit=0: must be a number of workers, at least 1"),
        ("limit='2'", "limit='2': must be a number of workers, at least 1"),
        ("limit=True", "limit=True: must be a number of workers, at least 1"),
        ("latency='x'", "latency='x': must be seconds, 0 or more, and not infinite, or a mapping of *"),
        ("latency={'calls': 1}", "latency={'calls': 1}: unknown calls; it knows token, call and other"),
        ("latency={'call': '1'}", "latency={'call': '1'}: must be seconds, 0 or more, *"),
        ("accounts=['bad name']", "accounts: 'bad name': an account's name is 1 to 32 letters, *"),
        ("accounts=[1]", "accounts: 1: an account's name is 1 to 32 letters, *"),
        ("hosts=[1]", "hosts=[[]1]: must be a list of host names, each written as auth.example.com, *"),
        ("hosts=['https://a.example/']", "hosts=[[]'https://a.example/']: must be a list of host names, *no scheme, *"),
        ("hosts=['']", "hosts=[[]'']: must be a list of host names, *"),
    ],
)
def test_a_wrong_marker_is_a_usage_error_that_says_what_exists(pytester, arguments, complaint):
    """It names the test and the word that is wrong, and nothing runs."""
    pytester.makepyfile(
        test_pool=f"""
        import pytest

        def test_other(): ...

        @pytest.mark.claude_tokens({arguments})
        def test_it(): ...
        """
    )
    result = pytester.runpytest()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(f"ERROR: test_pool.py::test_it: the marker claude_tokens {complaint}")
    result.assert_outcomes()


def test_a_good_marker_is_taken_as_it_is(pytester):
    """Each keyword with each form of value that it has; `None` is as good as nothing."""
    source = """
        import pytest
        from fake_server import Policy

        @pytest.mark.claude_tokens(policy=Policy(name="mine"), allow=("token-leak",), limit=2, hosts=["a.invalid"])
        class TestIt:
            @pytest.mark.claude_tokens(latency={"call": 0.5}, accounts=["alice", "b@c.d"], limit=None)
            def test_it(self): ...
    """
    found = marked(pytester, source)

    assert found.pop("policy").name == "mine"
    assert found == {
        "allow": ["token-leak"],
        "limit": None,
        "hosts": ["a.invalid"],
        "latency": {"call": 0.5},
        "accounts": ["alice", "b@c.d"],
    }


def test_an_argument_that_is_near_none_is_taken_for_none():
    """Then only those that there are, are told."""
    with pytest.raises(
        ValueError, match=r"has no argument 'zzz'; it takes policy, service, allow, limit, latency, acc"
    ):
        marker.merge({}, {"zzz": 1})
