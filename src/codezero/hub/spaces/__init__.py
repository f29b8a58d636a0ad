"""Teamspaces of organizations: made and named here, joined by a cluster with a one-time token, certified, and heard over a channel that the cluster keeps.

- `teamspaces`: what members do with them. `joining`: what clusters do. `proofs`: by what these show who they are.
- `access`: what laptops and programs get, to connect by themselves. `channels`: the WebSocket of each Teamspace. `pictures`: what a Teamspace told last.
"""
