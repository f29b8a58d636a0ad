"""What is put into a page is text, whatever it looks like."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.hub.pages.markup import Markup, escaped, joined, markup, page


class Seen(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.texts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.text() | st.sampled_from(['"><script>', "' onload='x", "{name}", "</p>", "&quot;", "<!--", "{0.__class__}"]))
def test_values_are_text_in_elements_and_attributes(value: str) -> None:
    value = value.replace("\r", "").replace("\0", "")
    seen = Seen(markup('<p title="{value}">{value}</p>', value=value))

    assert seen.tags == ["p"]
    assert seen.attributes == {"title": value}
    assert "".join(seen.texts) == value


def test_markup_is_put_in_as_it_is() -> None:
    inner = markup("<b>{name}</b>", name="<i>")

    assert markup("<p>{inner}</p>", inner=inner) == "<p><b>&lt;i&gt;</b></p>"
    assert joined([inner, inner]) == f"{inner}\n{inner}"
    assert escaped(7) == "7"
    assert isinstance(inner, Markup)


@pytest.mark.parametrize(
    ("form_to", "policy"),
    [
        (None, "form-action 'self'"),
        ("http://127.0.0.1:40123/callback", "form-action 'self' http://127.0.0.1:40123"),
        ("http://[::1]:40123/callback", "form-action 'self' http:"),
    ],
)
def test_a_form_leads_to_the_hub_and_one_place_more_at_most(form_to: str | None, policy: str) -> None:
    answer = page("Title", Markup("<p></p>"), form_to=form_to)

    assert answer.headers["content-security-policy"].endswith(policy)
    assert "script" not in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
