"""The part of a user's `conftest.py` that the workflow beside it needs: the policy of a job, and shared examples."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    GitHubArtifactDatabase,
    MultiplexedDatabase,
    ReadOnlyDatabase,
)


def shared_examples(environment: dict[str, str]) -> ExampleDatabase:
    """The examples on this machine, and those of the repository's last run that uploaded some."""
    local = DirectoryBasedExampleDatabase(".hypothesis/examples")
    owner, _, repository = environment.get("GITHUB_REPOSITORY", "").partition("/")
    if not (repository and environment.get("GITHUB_TOKEN")):
        return local
    return MultiplexedDatabase(local, ReadOnlyDatabase(GitHubArtifactDatabase(owner, repository)))


if "POLICY" in os.environ:  # in the workflow
    settings.register_profile("claude-tokens", database=shared_examples(dict(os.environ)))
    settings.load_profile("claude-tokens")


@pytest.fixture
def claude_tokens_policy() -> str:
    """Each job of the workflow has another policy."""
    return os.environ.get("POLICY", "anthropic")
