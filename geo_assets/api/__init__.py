"""The HTTP API: submissions in, the account of jobs out."""
