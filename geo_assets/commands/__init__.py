"""One module for each group of commands, which `geo_assets.cli` puts together, and what they share."""
