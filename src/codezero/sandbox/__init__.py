"""A Teamspace in a box: a stand-in cluster and laptop in namespaces of their own."""
