"""The System's control plane of serving: what Serve objects want, how a Service is led through its Router, and how it is put back.

Here: the live Serve objects and their plans (`serves`); names and shapes of what we make in the cluster (`naming`, `manifests`, `policies`); which
services can be served (`preflight`); the rewiring, pure (`rewiring` decides on what is `seen`, in `steps`, and `telling` writes the status) and done
(`reconciler`, which reads by `observing`); orders of the Orchestrator (`orders`); who leads (`leadership`); and putting everything back without a
running System (`repair`). Not here: bytes of variants and streams of Routers.
"""
