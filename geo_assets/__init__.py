"""geo_assets: a container of geospatial files becomes validated COGs, a STAC catalogue and PostGIS tables."""

__version__ = "0.1.0"
