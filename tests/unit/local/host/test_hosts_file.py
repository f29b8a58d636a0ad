"""Our block in the hosts file: marked as people know it, and gone without a trace."""

from hypothesis import given
from hypothesis import strategies as st

from codezero.local.host import hosts_file

_LINES = st.one_of(
    st.sampled_from(
        [
            b"127.0.0.1 localhost",
            b"::1\tlocalhost ip6-localhost # six",
            b"###",
            b"# a comment",
            b"10.0.0.1 printer\r",
            b"",
            b"  ",
            b"127.7.2.1 near-miss",
            b"\xff\xfe",
        ]
    ),
    st.binary(max_size=30).filter(lambda line: b"\n" not in line),
)
_FILES = st.tuples(st.lists(_LINES, max_size=12), st.booleans()).map(
    lambda parts: b"\n".join(parts[0]) + (b"\n" if parts[1] else b"")
)
_ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["orders.shop", "orders", "cart.shop.svc.cluster.local"]),
        st.sampled_from(["127.72.1.1", "127.75.9.9"]),
    ),
    max_size=6,
)
_MARKERS = st.sampled_from(
    [
        b"###\n",
        b"# CODEZERO\n",
        b"# /CODEZERO\n",
        b"# CODEZERO\r\n",
        b"127.72.4.4 old.shop\n",
        b"# Do not edit: Codezero writes this block and removes it when it stops.\n",
        b"10.0.0.1 printer\n",
    ]
)


@given(_FILES, _ENTRIES)
def test_taking_the_block_out_gives_every_byte_back(original: bytes, entries: list[tuple[str, str]]) -> None:
    """`czctl stop` must leave the file byte-identical, also without a line end at its end (R40)."""
    assert hosts_file.strip(hosts_file.insert(original, entries)) == hosts_file.strip(original)
    if b"CODEZERO" not in original:
        assert hosts_file.strip(original) == original


@given(_FILES, _ENTRIES, _ENTRIES)
def test_new_names_replace_the_old_ones(
    original: bytes, before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    """What is consumed changes all day; the block is the newest state, never a pile."""
    assert hosts_file.insert(hosts_file.insert(original, before), after) == hosts_file.insert(original, after)


@given(st.lists(_MARKERS, max_size=12))
def test_damaged_markers_never_cost_a_line_of_others_outside_a_block(lines: list[bytes]) -> None:
    """Whatever an editor did to our markers: repairing is stable, and nothing of ours stays."""
    stripped = hosts_file.strip(b"".join(lines))
    assert hosts_file.strip(stripped) == stripped
    assert b"CODEZERO" not in stripped


def test_the_block_looks_as_people_know_it() -> None:
    entries = [("orders.shop", "127.72.1.1"), ("orders.shop.svc", "127.72.1.1"), ("cart.shop", "127.72.1.2")]
    assert hosts_file.insert(b"127.0.0.1 localhost\n", entries) == (
        b"127.0.0.1 localhost\n"
        b"###\n"
        b"# CODEZERO\n"
        b"# Do not edit: Codezero writes this block and removes it when it stops.\n"
        b"127.72.1.1 orders.shop orders.shop.svc\n"
        b"127.72.1.2 cart.shop\n"
        b"# /CODEZERO\n"
        b"###\n"
    )


def test_edits_inside_are_discarded_and_edits_outside_kept() -> None:
    """The block is ours, the rest is the user's: also what they add below it."""
    ours = hosts_file.insert(b"127.0.0.1 localhost\n", [("orders.shop", "127.72.1.1")])
    edited = ours.replace(b"# /CODEZERO", b"10.9.9.9 mine.inside\n# /CODEZERO") + b"10.0.0.7 printer\n"
    assert hosts_file.strip(edited) == b"127.0.0.1 localhost\n10.0.0.7 printer\n"


def test_a_line_added_below_an_open_last_line_stays_a_line() -> None:
    """The original had no line end; what a user added after our block must not be glued to it."""
    ours = hosts_file.insert(b"127.0.0.1 localhost", [("orders.shop", "127.72.1.1")])
    assert hosts_file.strip(ours + b"10.0.0.7 printer\n") == b"127.0.0.1 localhost\n10.0.0.7 printer\n"


def test_a_block_that_lost_its_end_gives_up_only_what_is_ours() -> None:
    ours = hosts_file.insert(b"", [("orders.shop", "127.72.1.1")]).replace(b"# /CODEZERO\n###\n", b"")
    assert hosts_file.strip(ours + b"10.0.0.7 printer\n") == b"10.0.0.7 printer\n"


def test_a_block_that_lost_its_begin_gives_up_only_what_is_ours() -> None:
    ours = hosts_file.insert(b"10.0.0.7 printer\n", [("orders.shop", "127.72.1.1")]).replace(b"###\n# CODEZERO\n", b"")
    assert hosts_file.strip(ours) == b"10.0.0.7 printer\n"


def test_many_names_of_one_address_are_spread_over_lines_any_resolver_reads() -> None:
    """Some resolvers cut lines at 1,024 bytes; the names behind would be silently unknown."""
    names = [(f"name-{number}.namespace.svc.cluster.local", "127.72.1.1") for number in range(100)]
    lines = hosts_file.insert(b"", names).split(b"\n")
    assert max(map(len, lines)) < 1000
    assert sum(line.count(b"name-") for line in lines) == 100
