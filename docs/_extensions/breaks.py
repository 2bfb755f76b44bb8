"""Long names in the sidebar break behind their points and underscores, never inside a word."""

import re

_LINK = re.compile(r'(<a class="[^"]*reference[^"]*"[^>]*>)([^<]*)(</a>)')
_JOINT = re.compile(r"(?<=[._])(?=\w)")


def breakable(tree):
    """Returns the HTML of a tree of links with places where a name may break."""
    return _LINK.sub(lambda link: f"{link[1]}{_JOINT.sub('<wbr>', link[2])}{link[3]}", tree)


def _sidebar(app, page, template, context, doctree):
    tree = "furo_navigation_tree"
    if tree in context:
        context[tree] = breakable(context[tree])


def setup(app):
    # Behind the theme, which writes the tree at the usual priority of 500.
    app.connect("html-page-context", _sidebar, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
