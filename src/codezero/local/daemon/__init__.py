"""The laptop's end of the tunnel: names, capture, and the local API."""
