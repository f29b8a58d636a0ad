"""The live picture of a Teamspace: catalog, presence, sessions, activity."""
