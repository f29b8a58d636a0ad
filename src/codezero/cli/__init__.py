"""czctl: everything, for people and scripts."""
