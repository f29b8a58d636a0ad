"""Doubles and peers we ship for tests; nothing else imports this."""
