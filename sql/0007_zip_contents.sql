-- 0007_zip_contents.sql: what the zips of a container hold, by the names in their directories. Read once a listing,
-- so that every stage decides alike which zips are its own.

alter table geo.inventory add column holds text[];             -- raster, vector; null: no zip, or one that cannot be listed
