"""A browser for the tests of this folder; without one they are skipped."""

from __future__ import annotations

import pytest

from tests.browser.chromium import NAMES, Chromium, find


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """One process for all tests."""
    program = find()
    if program is None:
        pytest.skip(f"no browser on this machine ({', '.join(NAMES)}): apt-get install chromium-headless-shell")
    browser = Chromium(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def show(chromium, tmp_path):
    """Opens a page in a new tab of 1300 by 900 pixels. In the end nothing has been complained of or fetched."""
    tabs = []

    def load(text: str, *, before=lambda tab: None):
        file = tmp_path / "page.html"
        file.write_text(text, encoding="ascii")
        tab = chromium.open(width=1300, height=900)
        tabs.append((tab, file.as_uri()))
        before(tab)
        tab.load(file)
        return tab

    yield load
    for tab, address in tabs:
        assert tab.complaints == []
        assert tab.requested == [address]
