"""Installs a Teamspace through a Kubernetes API with somebody's own rights, looks after it, and takes it away again.

Everything here may be interrupted anywhere and run again. What is not ours is never changed: objects bear the label of whoever made them, and a record
beside them (`record`) names all that an installation has made. Used by `czctl`; nothing of it runs in a cluster.
"""
