"""Where messages come from: one interface, real sources."""
