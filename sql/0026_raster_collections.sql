-- 0026_raster_collections.sql: which collection takes the rasters of which bands, of those that a submission asked for.

create table geo.raster_collections (
    asked       text not null,                                 -- the parameter `collection`
    bands       text not null,                                 -- what the rasters' bands have in common (stac/bands.py)
    collection  text not null,                                 -- the one that is asked for, or one of its name and a suffix
    primary key (asked, bands),
    unique (asked, collection)
);
