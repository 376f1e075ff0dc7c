"""Everything Dagster: partitions, resources, assets, jobs, sensors. Thin: the work is in `geo_assets.stages`."""
