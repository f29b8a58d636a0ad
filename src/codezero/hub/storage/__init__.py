"""What the Hub remembers: one database, SQLite or PostgreSQL."""
