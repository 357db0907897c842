"""What a handle is given by name or path is no secret."""

from __future__ import annotations

import pytest

from fake_server.tokens import mint
from pytest_claude_tokens.handle.names import host_names, path_of, worker_name

SECRET = mint("refresh", "pasted", 1)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (worker_name, "a worker has a name, such as w0"),
        (path_of, "must be the path of a folder"),
        (host_names, "must be a list of host names"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(check, sentence):
    """Its kind and its length are told instead."""
    with pytest.raises(ValueError, match=sentence) as caught:
        check(SECRET)
    assert SECRET not in str(caught.value)
    assert "[a refresh token of 108 characters]" in str(caught.value)


@pytest.mark.parametrize("hosts", [7, None, [["auth.example"]], [{}]])
def test_what_is_no_list_of_names_is_told(hosts):
    """In the words of the argument, whatever it is."""
    with pytest.raises(ValueError, match=r"^hosts=.*: must be a list of host names$"):
        host_names(hosts)


def test_names_and_paths_are_taken_as_they_are(tmp_path):
    """One path, several, or none; one host, or several."""
    assert path_of(None) is None
    assert path_of(tmp_path) == str(tmp_path)
    assert host_names("a.example") == ("a.example",)
    assert host_names(["a.example", "b.example"]) == ("a.example", "b.example")
    assert worker_name("w0") == "w0"


def test_the_type_of_workers_is_public():
    """For the annotation of a test's argument, also where annotations are read at run time."""
    import pytest_claude_tokens

    assert pytest_claude_tokens.Workers.__name__ == "Workers"
