"""Groups of commands that `geo_assets.cli` puts together, and what they share."""
