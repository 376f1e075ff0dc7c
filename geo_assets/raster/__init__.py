"""The raster engine: any raster becomes a validated COG. Runs in the sandboxed child."""
