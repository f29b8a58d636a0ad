"""The Router of a served service: keeps its Envoy supplied and running. What it routes by is decided elsewhere.

Two processes of one pod, which share a folder. `czrouter sidecar` writes the files that Envoy watches, as the System tells it; `czrouter envoy`
runs Envoy. Each may die and come back alone, and Envoy goes on by the files it has.
"""
