"""Job type `vector_tiles` for geo_assets."""
