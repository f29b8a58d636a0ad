"""What the GUI's files are answered with, whoever serves them."""

import gzip
import re
from pathlib import Path

import msgspec
import pytest

from codezero import __version__
from codezero.gui.files import Answer, Site, Where

INDEX = '<!doctype html><meta name="csp-nonce" content="__CSP_NONCE__"><script type="module" src="/ui/assets/app-1a2b.js"></script>'
PROGRAM = "console.log('a');\n" * 200
HUB = Where("hub", "https://hub.test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text(INDEX)
    (tmp_path / "assets" / "app-1a2b.js").write_text(PROGRAM)
    (tmp_path / "assets" / "inter-3c4d.woff2").write_bytes(b"wOF2" * 1000)
    (tmp_path / "icon.svg").write_text("<svg/>")
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Site:
    return Site(HUB, folder)


def directives(answer: Answer) -> dict[str, str]:
    pairs = (part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    return dict(pairs)


def test_the_page_has_a_nonce_of_its_own_each_time_and_is_not_kept(site: Site) -> None:
    answers = [site.answer("/ui/") for _ in range(2)]
    nonces = [re.findall(r'content="([\w-]{22})"', answer.body.decode()) for answer in answers]

    assert nonces[0] != nonces[1]
    for answer, (nonce,) in zip(answers, nonces, strict=True):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert directives(answer)["style-src"] == f"'self' 'nonce-{nonce}'"
        assert int(answer.headers["Content-Length"]) == len(answer.body)


@pytest.mark.parametrize("path", ["/ui/", "/ui/assets/app-1a2b.js", "/ui/app.json", "/ui/assets/none.js", "/ui"])
def test_nothing_runs_that_is_no_file_of_ours(site: Site, path: str) -> None:
    found = directives(site.answer(path))

    assert found["default-src"] == "'none'"
    assert found["script-src"] == "'self'"
    assert found["frame-ancestors"] == "'none'"
    assert found["base-uri"] == "'none'"
    assert found["connect-src"] in {"'self'", "'self' http://127.0.0.1:*"}
    assert found["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in str(found)
    assert "http" not in str({name: value for name, value in found.items() if name != "connect-src"})


def test_the_hubs_page_alone_reaches_the_machine_in_front_of_it(folder: Path) -> None:
    """By loopback, where a paired machine listens (ADR 17); the console's page is on that machine itself, and needs no other port of it."""
    hubs = Site(HUB, folder)
    consoles = Site(Where("console", "https://hub.test"), folder)
    pages = {name: directives(each.answer("/ui/")) for name, each in (("hub", hubs), ("console", consoles))}
    told = {name: found.pop("connect-src") for name, found in pages.items()}
    for found in pages.values():
        del found["style-src"]

    assert told == {"hub": "'self' http://127.0.0.1:*", "console": "'self'"}
    assert pages["hub"] == pages["console"]
    for path in ("/ui/assets/app-1a2b.js", "/ui/app.json", "/ui/assets/none.js", "/ui"):
        assert directives(hubs.answer(path))["connect-src"] == "'self'"


def test_a_page_without_a_place_for_it_gets_no_nonce(folder: Path) -> None:
    (folder / "index.html").write_text("<!doctype html>")

    assert directives(Site(HUB, folder).answer("/ui/"))["style-src"] == "'self'"


@pytest.mark.parametrize(
    "path", ["/ui/spaces/01J/catalog", "/ui/index.html", "/ui/a.b", "/ui/../../etc/passwd", "/ui//"]
)
def test_addresses_of_the_gui_are_answered_by_its_page(site: Site, path: str) -> None:
    answer = site.answer(path)

    assert answer.status == 200
    assert answer.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    "path", ["/ui/assets/other.js", "/ui/assets/", "/ui/assets/../index.html", "/", "/uix", "/etc/passwd", ""]
)
def test_there_is_nothing_else(site: Site, path: str) -> None:
    assert site.answer(path).status == 404


def test_it_begins_at_one_address(site: Site) -> None:
    answer = site.answer("/ui")

    assert (answer.status, answer.headers["Location"]) == (308, "/ui/")


def test_a_file_with_its_content_in_its_name_is_kept_for_good(site: Site) -> None:
    program, icon = site.answer("/ui/assets/app-1a2b.js"), site.answer("/ui/icon.svg")

    assert program.body.decode() == PROGRAM
    assert program.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "immutable" in program.headers["Cache-Control"]
    assert icon.headers["Content-Type"] == "image/svg+xml"
    assert icon.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("encodings", ["gzip", "br, GZIP;q=0.5", "deflate, gzip, br, zstd"])
def test_it_is_compressed_for_who_takes_that(site: Site, encodings: str) -> None:
    plain, packed = (site.answer("/ui/assets/app-1a2b.js", encodings=each) for each in ("", encodings))

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body).decode() == PROGRAM
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert int(packed.headers["Content-Length"]) == len(packed.body) < len(plain.body)


@pytest.mark.parametrize("encodings", ["", "br", "gzip;q=0", "gzip; q=0.000", "xgzip", "identity"])
def test_it_is_not_compressed_for_others(site: Site, encodings: str) -> None:
    assert "Content-Encoding" not in site.answer("/ui/assets/app-1a2b.js", encodings=encodings).headers


@pytest.mark.parametrize("path", ["/ui/", "/ui/app.json", "/ui/icon.svg", "/ui/assets/inter-3c4d.woff2"])
def test_what_is_small_packed_already_or_different_each_time_stays_as_it_is(site: Site, path: str) -> None:
    assert "Content-Encoding" not in site.answer(path, encodings="gzip").headers


def test_what_a_browser_has_is_not_sent_again(site: Site) -> None:
    path = "/ui/assets/app-1a2b.js"
    etag, packed = (site.answer(path, encodings=each).headers["ETag"] for each in ("", "gzip"))

    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = site.answer(path, known=known)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
        assert "immutable" in again.headers["Cache-Control"]
    assert site.answer(path, known=packed).status == 200
    assert site.answer(path, known='"other"').status == 200


def test_files_are_only_read(site: Site) -> None:
    head, got = site.answer("/ui/icon.svg", method="HEAD"), site.answer("/ui/icon.svg")
    posted = site.answer("/ui/icon.svg", method="POST")

    assert (head.status, head.headers, head.body) == (200, got.headers, b"")
    assert (posted.status, posted.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("where", [HUB, Where("console", None), Where("console", "https://hub.test")])
def test_the_page_learns_where_it_runs(folder: Path, where: Where) -> None:
    answer = Site(where, folder).answer("/ui/app.json")

    assert msgspec.json.decode(answer.body) == {"served_by": where.served_by, "hub": where.hub, "release": __version__}
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_is_hidden_or_elsewhere_is_no_part_of_it(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("secret")
    (folder / "assets" / "link.txt").symlink_to(secret)
    (folder / "assets" / ".env").write_text("secret")
    site = Site(HUB, folder)

    assert site.answer("/ui/assets/link.txt").status == 404
    assert site.answer("/ui/assets/.env").status == 404


def test_where_nothing_is_built_there_is_only_what_says_where_one_is(tmp_path: Path) -> None:
    site = Site(HUB, tmp_path / "none")

    assert not site.is_built
    assert site.answer("/ui/").status == 404
    assert site.answer("/ui/app.json").status == 200
