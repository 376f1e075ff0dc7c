"""Sources of messages: one interface, real sources."""
