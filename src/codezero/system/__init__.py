"""The in-cluster controller and end of the tunnel."""
