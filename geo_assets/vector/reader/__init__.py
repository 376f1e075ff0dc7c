"""What runs in the sandboxed child: it opens an untrusted file, plans its tables and sends its features. It knows no
database.
"""
