"""Files of histories with some bytes or lines changed: each is judged, or refused with the line that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_claude_tokens.judge import History, judge

GOLDEN = sorted(path.read_bytes() for path in Path(__file__).parents[1].joinpath("histories").glob("*.jsonl"))
VALUE = re.compile(rb'(?<=":)("[^"]*"|-?[\d.]+|null|true|false|\[[^\]]*\])')
VALUES = [b"null", b"true", b"-1", b"7", b'"x"', b"[]", b"{}", b"1e999", b"NaN", b'"\\ud800"', b"9" * 5000]
BITS = [*VALUES, b"", b"\n", b"\r\n", b"\0", b"\xff", b"{", b"}", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"[" * 5000, b" "]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A golden history with a few values, bytes or lines changed."""
    data = draw(st.sampled_from(GOLDEN))
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(["value", "value", "bytes", "lines"]))
        found = list(VALUE.finditer(data))
        if way == "value" and found:
            begin, end = draw(st.sampled_from(found)).span()
            data = data[:begin] + draw(st.sampled_from(VALUES)) + data[end:]
        elif way == "bytes":
            at = draw(st.integers(0, len(data)))
            data = data[:at] + draw(st.sampled_from(BITS)) + data[at + draw(st.integers(0, 6)) :]
        else:
            lines = data.split(b"\n")
            one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            lines[one : one + draw(st.integers(0, 2))] = [lines[other][: draw(st.integers(0, 400))]]
            data = b"\n".join(lines)
    return data


@settings(max_examples=settings().max_examples // 2)
@given(data=files())
@example(b"")
@example(b"\n\n")
@example(b"\xef\xbb\xbf" + GOLDEN[0])
def test_a_file_is_judged_or_refused_by_its_line(tmp_path_factory, data: bytes) -> None:
    """Nothing else is raised, whole or sieved; and the two readers agree, on the verdict and on what is wrong."""
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_bytes(data)
    told = []
    for load in (History.load, History.load_what_matters):
        try:
            history = load(path)
        except ValueError as error:
            told.append(["refused", str(error)])
        else:
            verdict = judge(history)
            told.append([verdict.state.value, *map(str, verdict.violations), *map(str, verdict.notes)])
    assert told[0] == told[1]
    if told[0][0] == "refused":
        assert re.search(r": line \d+ (is|\(#)|is empty: ", told[0][1])
        assert len(told[0][1]) < 600 + len(str(path))
