"""The nouns of the product as frozen values; no I/O, no framework."""
