"""Changes to the machine: packet capture, name resolution, journal and undo."""
