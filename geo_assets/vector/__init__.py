"""Vector files to PostGIS tables, in two halves: `reader/` runs in the sandboxed child, `tables/` in the parent.

Here: what both halves need: what crosses the border between them, names, types, conditions, reference systems.
"""
