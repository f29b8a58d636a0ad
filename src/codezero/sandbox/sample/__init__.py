"""The sample project: a small real application to consume, serve and break.

`frontend` shows a page and passes `/api` to `core` and `/sockets` to `sockets`; `core` asks `leaf` and the `database`. Each part is a module to
run (`python -m codezero.sandbox.sample.core`) and takes its settings from the environment (`settings`). `propagation` carries the headers that
choose variants from hop to hop; applications of others may use it as it is. The manifests apply to a real cluster and to the sandbox alike.
"""
