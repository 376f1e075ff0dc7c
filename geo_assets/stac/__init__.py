"""STAC: items, collections, validation, pgstac."""
