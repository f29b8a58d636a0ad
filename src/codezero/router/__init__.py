"""The Router of a served service: keeps its Envoy supplied and running. What it routes by is decided elsewhere."""
