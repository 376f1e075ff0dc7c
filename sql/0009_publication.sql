-- 0009_publication.sql: what is put out and not named by anybody yet, or any more; tables that wait for their job's gate.

-- Taking back more than a share of what is published is asked for, once, with the attempt that does it.
alter table geo.attempts add column allow_mass_retire boolean not null default false;

-- Every blob that outputs name: COGs and thumbnails, of one raster or of several.
create function geo.blobs_of(p_outputs jsonb) returns text[] language sql immutable as $$
    select coalesce(array_agg(distinct made.cog->>part), '{}')
      from (select p_outputs union all select jsonb_path_query(p_outputs, '$.cogs[*]')) as made (cog), unnest(array['cog', 'thumbnail']) as part
     where made.cog ? part
$$;
create index on geo.published using gin (geo.blobs_of(outputs));
create index on geo.tasks using gin (geo.blobs_of(outputs)) where receipt is not null and status in ('pending', 'running', 'cancelled');

-- Whether anybody is led to a blob, or will be once its task is registered.
create function geo.is_named(p_blob text) returns boolean language sql stable as $$
    select exists (select from geo.published where geo.blobs_of(outputs) @> array[p_blob])
        or exists (select from geo.tasks where geo.blobs_of(outputs) @> array[p_blob]
                      and receipt is not null and status in ('pending', 'running', 'cancelled'))
$$;

-- Blobs that may be named by nobody. One is entered before it is uploaded, and leaves as its task names it; one that loses
-- its name comes back. Whoever deletes a blob holds its row, so an upload of the same name comes before or after, not between.
create table geo.loose_blobs (
    blob     text        primary key,                          -- alias/container/path
    since    timestamptz not null default now(),
    run_id   text                                              -- the run that is about to upload it; null: it lost its name
);
create index on geo.loose_blobs (since);

create function geo.note_loose_blobs() returns trigger language plpgsql as $$
begin
    insert into geo.loose_blobs (blob)
        select unnest(geo.blobs_of(old.outputs)) except select unnest(geo.blobs_of(case when tg_op = 'UPDATE' then new.outputs end))
        on conflict do nothing;
    return null;
end $$;
create trigger blobs_lose_their_name after update of outputs on geo.tasks for each row
    when (old.outputs <> '{}' and old.outputs is distinct from new.outputs) execute function geo.note_loose_blobs();
create trigger blobs_lose_their_task after delete on geo.tasks for each row
    when (old.outputs <> '{}') execute function geo.note_loose_blobs();
create trigger blobs_lose_their_name after update of outputs on geo.published for each row
    when (old.outputs is distinct from new.outputs) execute function geo.note_loose_blobs();
create trigger blobs_lose_their_item after delete on geo.published for each row execute function geo.note_loose_blobs();

-- Tables of jobs with on_error=fail, until all files of the job are known to be good.
create schema if not exists vector_waiting;
comment on schema vector_waiting is 'Loaded vector tables that wait for their job''s gate. Nothing here is for readers.';
grant usage, create on schema vector_waiting to geo_pipeline;

create table geo.waiting_tables (
    table_name  text   primary key,                            -- in vector_waiting
    job_id      text   not null,
    stage       text   not null,
    task_key    text   not null,
    position    int    not null,                               -- of its layer among those of the source
    load        jsonb  not null,                               -- what the publication must know
    unique (job_id, stage, task_key, position)
);                                                             -- no foreign key: a table outlives its task until it is swept
