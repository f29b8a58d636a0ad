"""The Router of a served service: keeps its Envoy supplied and running. What it routes by is decided elsewhere.

One container. `czrouter run`, its first process, runs Envoy and `czrouter follow`, and says whether the pod is ready; the follower writes the
files that Envoy watches, as the System tells it. Each may die and come back alone, and Envoy goes on by the files it has.
"""
