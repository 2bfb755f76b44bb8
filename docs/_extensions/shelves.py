"""Names lead to the public shelf: a type defined in a private file links to where it is shown."""

_SHELVES = ("syncattn.functional", "syncattn.nn", "syncattn.models")


def _shown(app, env, node, contnode):
    """Returns a link to the object of the same name and class that a shelf documents."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or "." not in name:
        return None
    domain = env.domains["py"]
    package, last = name.rsplit(".", 1)
    above = [package.rsplit(".", depth)[0] for depth in range(1, package.count(".") + 1)]
    # The names of the top shelf are documented where they come from.
    for shelf in [*above, *_SHELVES] if package != "syncattn" else _SHELVES:
        if f"{shelf}.{last}" in domain.objects:
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", f"{shelf}.{last}", node, contnode
            )
    return None


def setup(app):
    app.connect("missing-reference", _shown)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
