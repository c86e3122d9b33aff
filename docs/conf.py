"""Sphinx builds the pages and the reference: `make docs`."""

from importlib.metadata import version as installed

from pilot import PilotDescription
from pilot.interfaces import launchers, miniapps

#: For types only, so that workers do not load it; autodoc resolves the annotations of structs.
for module in (launchers, miniapps):
    module.PilotDescription = PilotDescription  # type: ignore[attr-defined]

project = "quantum-pilot"
author = "the quantum-pilot developers"
version = release = installed("quantum-pilot")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "quantum-pilot"

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
#: Pages link to files of the repository, which are not pages.
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
#: Names in single backquotes are names of Python objects, as docstrings here have them.
default_role = "code"

#: `sphinx-build -b linkcheck docs docs/_build/linkcheck` asks for every address outside, which needs a network.
linkcheck_ignore = [
    r"https?://(127\.0\.0\.1|localhost)",
    r"https://github\.com/quantum-pilot/",
    r"https://quantum-pilot\.readthedocs\.io",
]
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False
linkcheck_allowed_redirects = {r"https://doi\.org/.*": r".*", r"https://semver\.org.*": r".*"}
