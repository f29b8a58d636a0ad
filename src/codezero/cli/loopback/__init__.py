"""What the processes of the user's have in common that answer pages over loopback: the local console (ADR 16) and the one for paired pages (ADR 17)."""
