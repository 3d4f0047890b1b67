"""The documentation site: `make docs`. Every example on it runs in the build, and every warning is an error."""

import re
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vmf_ops  # noqa: E402
from scripts import compare_log_normalizers  # noqa: E402

compare_log_normalizers.write(Path(__file__).parent / "_generated" / "log_normalizers.md")

project = "vmf_ops"
author = copyright = "the vmf_ops developers"  # noqa: A001
version = release = vmf_ops.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generated"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
napoleon_use_rtype = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
nitpicky = False

plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 130)]
plot_rcparams = {"font.size": 9, "figure.constrained_layout.use": True}
plot_apply_rcparams = True

# Furo: one column on a phone, a dark form, and no more script than the search needs.
html_theme = "furo"
html_title = f"vmf_ops {version}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]


def _read(app, name, source):
    """Examples go to matplotlib's directive, which knows reStructuredText alone, and links out of the site are text."""
    as_rst = lambda found: "```{eval-rst}\n.. plot::\n" + textwrap.indent(found[1], "   ") + "```"  # noqa: E731
    source[0] = re.sub(r"```\{plot\}\n(.*?)```", as_rst, source[0], flags=re.DOTALL)
    if "/" not in name:
        source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\((?:\.\./|[^)]*/report_)[^)]*\)", r"\1", source[0])


def _docstring(app, what, name, obj, options, lines):
    """Absolute values and norms of the formulas are no substitutions."""
    lines[:] = [line if line.lstrip().startswith(">>>") else line.replace("|", "\\|") for line in lines]


def setup(app):
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _docstring)
