"""Small real servers and clients, one protocol each, to see that it passes a tunnel unharmed.

Each is a module to run: `python -m codezero.testing.peers.http server --port 8080` in a pod, and `… client http://name:8080` on the laptop. A
client prints one line of JSON (`{"peer": …, "ok": …, …}`) and ends with 0 when everything held, else with 1. What took how long is told, and
never judged. Modules import the libraries they need only when they run, since those are development dependencies.
"""
