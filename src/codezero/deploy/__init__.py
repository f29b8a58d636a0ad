"""What a Teamspace is made of in a cluster: values, objects, identities. No I/O, and nothing of a running process.

- `values`: what whoever installs may choose, and every mistake in it by its path.
- `objects`: all objects of those values, in the order in which they are applied. The Helm chart renders the same ones, a test compares; `czctl` and
  the sandbox apply these.
- `access`, `fence`: the rights of our accounts, and what the API server keeps them from besides. `manifest`: how each object is written.
- `serves.yaml`: the definition of the Serve resource.
"""
