"""Job type `terrain` for geo_assets. Nothing is imported here: children look for this package before their walls."""
