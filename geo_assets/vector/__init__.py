"""Vector files to PostGIS tables, in two halves: the sandboxed child reads (`read.py`), the parent loads (`load.py`,
`publish.py`).
"""
