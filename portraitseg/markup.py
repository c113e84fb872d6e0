"""HTML and SVG elements as values: what is not markup already gets escaped, so that no name can become code."""

from html import escape

#: Elements without an end.
_VOID = ("br", "img", "input", "meta")


class Markup(str):
    """Text that is markup, and is not escaped again."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: object) -> Markup:
    """One element.

    Args:
        tag: its name, ours.
        children: Markup as it is, other text escaped, None left out.
        attributes: `class_` for class, `data_value` for data-value; None and False left out, True without a value.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: str | None) -> Markup:
    """Several children, as in `element`, without an element around them."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children if c is not None))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    key = name.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{escape(str(value))}"'
