"""Who is it? People by password or identity provider, czctl by a sign-in of its device, machines by API keys; browsers by a session.

What somebody may do is decided elsewhere: here ends whoever cannot be told apart from a stranger.
"""
