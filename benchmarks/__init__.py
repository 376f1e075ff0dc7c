"""Side-by-side runs against the tools that people use: same machine, same bytes, same run."""
