"""Decisions about where a request goes; pure functions.

`plan` is the form between the model and any data plane, `compile` makes it from serves, `envoy` spells it for Envoy. Nobody here opens a
file or a socket.
"""
