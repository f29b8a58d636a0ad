"""One module per noun; each command parses its flags, asks the Daemon, and prints."""
