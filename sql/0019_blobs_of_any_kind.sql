-- 0019_blobs_of_any_kind.sql: outputs may name blobs of whatever kind, in a list.

-- Every blob that outputs name: COGs and thumbnails, of one raster or of several, and those of the list `blobs`. Of
-- outputs without such a list it is what it was before, so the indexes on it stay as they are.
create or replace function geo.blobs_of(p_outputs jsonb) returns text[] language sql immutable as $$
    select coalesce(array_agg(distinct named.blob), '{}')
      from (select made.cog->>part
              from (select p_outputs union all select jsonb_path_query(p_outputs, '$.cogs[*]')) as made (cog),
                   unnest(array['cog', 'thumbnail']) as part
             where made.cog ? part
            union all
            select jsonb_path_query(p_outputs, '$.blobs[*] ? (@.type() == "string")') #>> '{}') as named (blob)
$$;
