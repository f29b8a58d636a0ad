"""Policies of Teamspaces: checked, tried by their own tests, kept in versions, explained, and made into bundles. Cedar's library has its home here.

Teamspaces decide by themselves, with `model.cedar`; nothing here is asked when somebody consumes or serves.
"""
