"""The System's control plane of serving: what Serve objects want, how a Service is led through its Router, and how it is put back.

Here: names and shapes of what we make in the cluster (`naming`, `manifests`), which services can be served (`preflight`), the next step of a
rewiring (`rewiring`) and its doing (`reconciler`), orders of the Orchestrator (`orders`), who leads (`leadership`), and putting everything back
without a running System (`repair`). Not here: bytes of variants and streams of Routers.
"""
