"""The Hub: organizations, their people, roles and policies, Teamspaces, sign-in and audit. `czhub`; anywhere, by whoever runs it."""
