-- 0030_steps.sql: what the steps of a run share, wherever they run.

-- What one step passes to the next: small references, as JSON. Of a run: for its own steps, and for a re-execution of some of them. Of an
-- asset: for later runs of the same partition.
create table geo.contracts (
    place       text        primary key,                       -- run/step/output[/key], or asset/partition
    run_id      text,                                          -- null: of an asset
    contract    jsonb       not null,
    written_at  timestamptz not null default now()
);
create index on geo.contracts (written_at) where run_id is not null;

-- Steps at work, each with the last sign of life of its process. A row ends with its step; that of a process that died stays until the
-- job has another owner.
create table geo.steps (
    step        bigint      generated always as identity primary key,
    job_id      text        not null references geo.jobs on delete cascade,
    run_id      text        not null,
    process     text        not null,                          -- host/pid
    heartbeat   timestamptz not null default now()
);
create index on geo.steps (job_id);

-- Whoever executes the plan of a run renews the lease of its job.
create index on geo.jobs (lease_run_id) where lease_run_id is not null;
