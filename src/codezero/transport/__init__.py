"""The only place that connects our own processes."""
