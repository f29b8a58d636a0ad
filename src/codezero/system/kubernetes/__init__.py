"""The only user of a Kubernetes library: typed objects, watches that survive every fault, writes."""
