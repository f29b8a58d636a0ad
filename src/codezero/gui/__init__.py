"""The GUI as it is built, and how it is served: by the Hub, and by the local console on a person's machine. Its source is `gui/`."""
