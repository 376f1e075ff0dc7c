-- 0024_collection_files.sql: each collection's items as one file, and each table as one, in the output account.

-- Every blob that outputs name, now also the files of tables. Of outputs without such a list it is what it was before, so the
-- indexes on it stay as they are.
create or replace function geo.blobs_of(p_outputs jsonb) returns text[] language sql immutable as $$
    select coalesce(array_agg(distinct named.blob), '{}')
      from (select made.cog->>part
              from (select p_outputs union all select jsonb_path_query(p_outputs, '$.cogs[*]')) as made (cog),
                   unnest(array['cog', 'thumbnail']) as part
             where made.cog ? part
            union all
            select jsonb_path_query(p_outputs, '$.blobs[*] ? (@.type() == "string")') #>> '{}'
            union all
            select jsonb_path_query(p_outputs, '$.geoparquet[*].blob ? (@.type() == "string")') #>> '{}') as named (blob)
$$;

-- The collection alone names the file of its items.

create table geo.collection_files (
    collection  text        primary key,
    blob        text        not null,                          -- alias/container/path
    state       text        not null,                          -- a hash of the items that are in it
    at          timestamptz not null default now()
);
create index on geo.collection_files (blob);

create or replace function geo.is_named(p_blob text) returns boolean language sql stable as $$
    select exists (select from geo.published where geo.blobs_of(outputs) @> array[p_blob])
        or exists (select from geo.tasks where geo.blobs_of(outputs) @> array[p_blob]
                      and receipt is not null and status in ('pending', 'running', 'cancelled'))
        or exists (select from geo.collection_files where blob = p_blob)
$$;

create function geo.note_loose_collection_file() returns trigger language plpgsql as $$
begin
    insert into geo.loose_blobs (blob) values (old.blob) on conflict do nothing;
    return null;
end $$;
create trigger files_lose_their_collection after delete on geo.collection_files for each row execute function geo.note_loose_collection_file();
create trigger files_are_replaced after update on geo.collection_files for each row
    when (old.blob <> new.blob) execute function geo.note_loose_collection_file();
