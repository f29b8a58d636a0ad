"""The local console: a process of the user's, on loopback, that serves the GUI and passes on what its page asks of the agent and of the Hub (ADR 16).

Browsers speak to it, and to nothing of root's. It exists while `czctl ui` runs.
"""
