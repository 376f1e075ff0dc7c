"""The child-process pool: the only place where untrusted bytes are opened."""
