"""The documentation site: `make docs` builds it from the Markdown of the repository, `build/site/index.html`.

The source folder is the repository itself, so that a link works here as it does where the files are browsed.
"""

from pathlib import Path

from sphinx.application import Sphinx

from docs.site_pages.docstrings import as_restructured_text
from docs.site_pages.http_api import write_http_api

ROOT = Path(__file__).parent.parent

project = "Maskwright"
author = "the authors of Maskwright"
project_copyright = "the authors of Maskwright, Apache-2.0"
root_doc = "README"
include_patterns = [
    "docs/**.md",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/RESULTS.md",
    "models/box/lite_s/README.md",
]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
nitpicky = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # a page may begin below its title with a table

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "Maskwright"
html_show_sphinx = False
html_copy_source = False
html_extra_path = ["site_pages/index.html"]
html_theme_options = {"sidebar_hide_name": False}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def with_contents(app: Sphinx, name: str, text: list[str]) -> None:
    """Append the table of contents to the README, which is the front page."""
    if name == root_doc:
        text[0] += "\n" + (ROOT / "docs/site_pages/contents.txt").read_text()


def setup(app: Sphinx) -> None:
    """Write the page of the HTTP API, add the contents, and read docstrings as this project writes them."""
    app.connect("config-inited", lambda app, config: write_http_api(ROOT / "docs/api/http.md"))
    app.connect("source-read", with_contents)
    app.connect("autodoc-process-docstring", as_restructured_text)
