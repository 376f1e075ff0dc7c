-- 0006_vector_loads.sql: every load into a published table: its account, and what decides which load has the last word.

-- Replaced tables that may be called back (geo-assets vector rollback). Nothing here is for readers.
create schema if not exists vector_versions;
comment on schema vector_versions is 'Replaced vector tables that are kept. Nothing here is for readers.';
grant usage, create on schema vector_versions to geo_pipeline;

create table geo.vector_loads (
    load_id       bigint      generated always as identity primary key,
    table_name    text        not null,                        -- schema.name
    source        text        not null,                        -- a file, or account/container/path
    layer         text        not null default '',
    mode          text        not null check (mode in ('replace', 'append', 'upsert', 'rollback')),
    load_key      text,                                        -- fingerprint of the input: an append is not done twice
    submitted_at  timestamptz not null,                        -- of two that replace one table, the one submitted last stays
    loaded_at     timestamptz not null default now(),
    features      bigint      not null check (features >= 0),
    loaded        bigint      not null check (loaded >= 0),
    rejected      bigint      not null check (rejected >= 0),
    filtered      bigint      not null check (filtered >= 0),
    repaired      bigint      not null check (repaired >= 0),
    table_rows    bigint      not null,                        -- in the table afterwards
    drift         text[]      not null default '{}',           -- how the schema differs from before
    check (features = loaded + rejected + filtered)            -- no feature is lost
);
create index on geo.vector_loads (table_name, load_id);
create unique index on geo.vector_loads (table_name, load_key) where mode = 'append' and load_key is not null;
