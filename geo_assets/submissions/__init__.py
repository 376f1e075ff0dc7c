"""Submissions: reading messages, recording them, and launching their jobs."""
