"""Text of laptops and clusters as other people may see it: it goes to their terminals."""

import unicodedata

MAX_NAME = 63


def printable(text: str, *, most: int = MAX_NAME) -> str:
    """`text` without control, format and separating characters other than the space, at most that long."""
    # Much longer text than may be kept is cut first: it comes from strangers.
    kept = "".join(
        character
        for character in text[: 4 * most]
        if unicodedata.category(character)[0] not in "CZ" or character == " "
    )
    return kept.strip()[:most]
