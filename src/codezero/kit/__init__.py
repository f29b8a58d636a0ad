"""What could be a library of its own: tasks, back-off, certificates, logs. Not one word of the product in here."""
