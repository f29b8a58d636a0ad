"""What people do on pages again and again."""

from collections.abc import Callable
from re import Pattern

from playwright.sync_api import Locator, Page, expect
from tests.browser.journeys import copied


def shown(page: Page, url: str, title: str | None = None) -> None:
    """Go there, and wait until all is there that the page asks for."""
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    if title is not None:
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.get_by_label("Loading")).to_have_count(0)


def row(page: Page, table: str, text: str) -> Locator:
    """The row of the table that holds the text."""
    return page.get_by_role("table", name=table).get_by_role("row").filter(has_text=text)


def told_once(dialog: Locator, button: str) -> str:
    """What the dialog tells, by its button that copies it."""
    dialog.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("button", name=button).click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    return copied(dialog.page)


def choose(page: Page, label: str, option: str) -> None:
    """Choose in a field that offers some."""
    page.get_by_role("dialog").get_by_role("radiogroup", name=label).get_by_label(option, exact=True).check()


def select(page: Page, label: str, option: str | Pattern[str]) -> None:
    """Choose in a list that opens below its field."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()


def agree(page: Page, button: str, title: str, *, typed: str | None = None) -> None:
    """Press a button of the dialog that asks first, with what it wants typed."""
    dialog = page.get_by_role("dialog", name=title)
    if typed is not None:
        dialog.get_by_label(f"Type {typed} to go on").fill(typed)
    dialog.get_by_role("button", name=button).click()
    expect(dialog).to_have_count(0)


def consume_by(page: Page, *rules: str) -> None:
    """Make these the consume rules, in the catalog."""
    page.get_by_role("button", name="Consume rules").click()
    page.get_by_role("textbox", name="Rules").fill("\n".join(rules))
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def open_service(page: Page, service: str) -> None:
    """Find it in the catalog by its name."""
    name = service.rpartition("/")[2]
    page.get_by_role("textbox", name="Filter services").fill(name)
    page.get_by_role("table", name="Services").get_by_role("row").filter(has_text=name).click()
    expect(page.get_by_role("dialog", name=service)).to_be_visible()


def serve_dialog(page: Page, service: str, port: int, condition: str) -> Locator:
    """The dialog by which the service that is opened is served from `port`, with a kind of condition."""
    page.get_by_role("button", name="Serve…").click()
    dialog = page.get_by_role("dialog", name=f"Serve {service}")
    dialog.get_by_role("textbox", name="Local port").fill(str(port))
    dialog.get_by_role("combobox", name="Condition").click()
    page.get_by_role("option", name=condition, exact=True).click()
    return dialog


def serve_by_header(
    page: Page, service: str, port: int, name: str, value: str, *, confirm: Callable[[], None] = lambda: None
) -> None:
    """Serve the service that is opened, for requests with that header; `confirm` says yes to it where the machine asks."""
    dialog = serve_dialog(page, service, port, "Header")
    dialog.get_by_role("textbox", name="Name").fill(name)
    dialog.get_by_role("textbox", name="Value").fill(value)
    expect(dialog.get_by_text("Before you serve")).to_be_visible()
    dialog.get_by_role("button", name="Serve", exact=True).click()
    confirm()
    expect(dialog.get_by_text("Requests come here")).to_be_visible()
    dialog.get_by_role("button", name="Done").click()
