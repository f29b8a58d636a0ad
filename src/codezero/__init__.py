"""Codezero, open: turns a Kubernetes cluster into a Teamspace.

Developers consume in-cluster services from their laptop by their real names, and serve local processes into the cluster.
"""

__version__ = "0.1.0"
