"""How Sphinx builds the documentation: ``sphinx-build -W -n docs build/docs``."""

from gconv import __version__

project = "gconv"
author = "The gconv developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = f"gconv {__version__}"
exclude_patterns = []

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more: shapes, units, defaults
autodoc_inherit_docstrings = False

# Addresses that answer to a browser alone, or not to everybody.
linkcheck_ignore = [r"https://data\.brainchip\.com/.*"]
linkcheck_anchors = False
