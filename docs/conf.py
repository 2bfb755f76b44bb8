"""How the pages are built, by `make docs`."""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "syncattn"
author = "The syncattn developers"
copyright = author
version = release = installed("syncattn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "mathml",
    "equations",
    "shelves",
    "breaks",
]
exclude_patterns = ["_build", "_extensions", "**/_*"]
nitpicky = True
# Other packages' names stay plain text: their inventories would have to come over the network.
# So does the type of a result that no shelf lists.
nitpick_ignore_regex = [("py:.*", r"(?!syncattn\.).*"), ("py:class", ".*")]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
myst_url_schemes = ("https", "http")

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
templates_path = ["_templates"]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# The shapes of fields are in their texts; in the types they read as emphasis.
napoleon_attr_annotations = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = f"syncattn {version}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["math.css"]
html_show_copyright = False
html_copy_source = False
