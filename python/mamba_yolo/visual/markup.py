"""Pages and drawings as text: every child and every attribute is escaped, unless it is markup made here.

Names of classes and files come from strangers. A page built from `tag` holds them as text only, forbids every outside
resource and every script by its content security policy, and is valid UTF-8 whatever a file was called.
Test: tests/visual/test_markup.py.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from mamba_yolo.errors import ConfigError

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_EMPTY = {"meta", "img", "br", "input"}
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element of a page or a drawing.

    Args:
        name: of the element.
        children: markup, or anything else as its escaped text.
        attributes: escaped values; None leaves one out, True writes its name alone, `class_` is class and
            `stroke_width` is stroke-width.

    Raises:
        ConfigError: a name that is no name.
    """
    words = [name]
    for key, value in attributes.items():
        word = key.rstrip("_").replace("_", "-")
        if not re.fullmatch(r"[a-zA-Z-]+", word):
            raise ConfigError(f"{key!r} cannot be an attribute; use letters and dashes")
        if value is not None and value is not False:
            words.append(word if value is True else f'{word}="{_escaped(value)}"')
    if name in _EMPTY:
        return Html(f"<{' '.join(words)}>")
    return Html(f"<{' '.join(words)}>{joined(children)}</{name}>")


def joined(parts: object) -> Html:
    """Markup and texts one after the other."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))  # type: ignore[attr-defined]


def page(title: str, body: Html, more_style: str = "") -> str:
    """A complete page with the style of this package; it asks nobody for anything."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8") + more_style
    head = (
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    return f"<!doctype html>\n{tag('html', tag('head', *head), tag('body', body), lang='en')}\n"


def _escaped(value: object) -> str:
    return html.escape(_NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", str(value)))
