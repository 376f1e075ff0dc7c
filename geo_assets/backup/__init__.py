"""Backing up a stack, and restoring it."""
