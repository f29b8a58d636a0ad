"""The small root process that keeps the Daemon healthy and the machine restorable."""
