"""A Teamspace in a box: a stand-in cluster, a laptop, its LAN peer and a little internet, in namespaces of their own.

It always runs in its own mount, network, process, IPC and host-name namespaces, for ordinary users in a user namespace too, so it never touches
the machine. Ending its keeper ends all of it. Everything in here is a stand-in; none of it is part of a real Teamspace.

- `control`: start it, run commands in it, cut its network, stop it. The only module others import; light.
- `keeper`: process 1; `runtime`: the process with cluster, networks and controllers in it.
- `layout`, `network`, `laptop`: addresses, networks, the laptop's file system.
- `api`: the Kubernetes API server. It keeps NetworkPolicies, PodDisruptionBudgets and ValidatingAdmissionPolicies, and does not do what they say.
- `workloads`, `kubelet`, `pods`, `containers`, `endpoints`, `proxy`, `cluster_dns`: what makes its objects real.
- `identities`: development certificates; `sample`: what is installed besides the Teamspace. `demo`: shows it all.
"""
