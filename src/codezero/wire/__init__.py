"""What travels between processes: bytes and shapes, no sockets."""
