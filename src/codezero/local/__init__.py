"""The developer's machine: Daemon, Supervisor, and what they change on the host."""
