"""Markup: hostile text stays text, and a page asks nobody for anything."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from mamba_yolo.errors import ConfigError
from mamba_yolo.visual.markup import POLICY, Html, joined, page, tag

HOSTILE = "</td><script>alert(1)</script>\" onload='x' & <svg onload=x>"


class Reader(HTMLParser):
    """What a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.depth = [], [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes

    def handle_data(self, text):
        self.texts.append(text)


def test_text_and_attributes_are_escaped():
    seen = Reader(tag("td", HOSTILE, title=HOSTILE, class_="name"))
    assert seen.tags == ["td"]
    assert seen.attributes == [("title", HOSTILE), ("class", "name")]
    assert "".join(seen.texts) == HOSTILE


def test_markup_nests_and_names_are_spelled_for_svg():
    assert tag("g", tag("path", d="M0 0", stroke_width=2), 3) == '<g><path d="M0 0" stroke-width="2"></path>3</g>'
    assert tag("input", name_="by", type="radio", checked=True, id=None, hidden=False) == (
        '<input name="by" type="radio" checked>'
    )
    assert joined([Html("<br>"), "<br>"]) == "<br>&lt;br&gt;"


@pytest.mark.parametrize("text", ["a\x00b", "photo\udce9.jpg", "bell\x07"])
def test_what_is_no_text_is_replaced(text):
    shown = tag("p", text)
    assert "\N{REPLACEMENT CHARACTER}" in shown
    assert shown.encode("utf-8").decode("utf-8") == shown


def test_attribute_names_are_names():
    with pytest.raises(ConfigError, match="cannot be an attribute"):
        tag("p", **{'x="y" onload': 1})


def test_page_allows_no_script_and_no_visitor():
    text = page(HOSTILE, tag("p", HOSTILE))
    seen = Reader(text)
    assert "script" not in seen.tags
    assert ("content", POLICY) in seen.attributes
    assert POLICY.startswith("default-src 'none'")
    assert not {name for name, _ in seen.attributes} & {"src", "onload", "href"}
    assert "http" not in text.replace("http-equiv", "")
