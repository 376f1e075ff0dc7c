"""`geo-assets serve`: what was published, as STAC API, map tiles, features and files. Needs the extra `serve`."""
