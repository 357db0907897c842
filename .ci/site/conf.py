"""How Sphinx makes a site of the pages that `build.py` has put together."""

from __future__ import annotations

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "pytest-claude-tokens"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
html_theme = "furo"
html_title = project
html_copy_source = False

myst_heading_anchors = 4  # as GitHub has them

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
toc_object_entries_show_parents = "hide"


def setup(app: Sphinx) -> None:
    """Diagrams stay text, as they are in the files: a page that draws them would fetch a script from elsewhere."""
    app.add_lexer("mermaid", TextLexer)
