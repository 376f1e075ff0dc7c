-- 0022_tombstones.sql: what was published once and was withdrawn on request, and whether its data are gone.

create table geo.tombstones (
    tombstone_id  bigint      generated always as identity primary key,
    collection    text        not null,
    item          text,                                        -- null: the collection itself
    withdrawn_at  timestamptz not null default now(),          -- from then on nobody found it
    withdrawn_by  text        not null,                        -- cli, api
    job_id        text,                                        -- whose task had published it; null: the ledger knew of none
    stage         text,
    task_key      text,
    outputs       jsonb       not null default '{}',           -- what it led to
    data_gone_at  timestamptz                                  -- null: its files or tables may be there still
);
create index on geo.tombstones (collection, item);
create index on geo.tombstones (job_id) where job_id is not null;
create index on geo.tombstones (tombstone_id) where data_gone_at is null;
