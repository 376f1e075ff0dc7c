"""Containers: list, read, write; and what the files in them are."""
