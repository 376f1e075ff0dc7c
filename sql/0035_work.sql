-- 0035_work.sql: what work is expected to cost, and what it did cost.

-- How long a task keeps a child busy, as expected when it was planned, in milliseconds; 0: nobody asked. The tasks of a chunk are a range in
-- the order of this, the longest first. Bytes: of all files of its source.
alter table geo.tasks
    add column cost_ms int    not null default 0 check (cost_ms >= 0),
    add column bytes   bigint not null default 0 check (bytes >= 0);

-- Only of tasks that may still have to be done. No column in its condition that `status` does not change with: updates stay cheap.
create index tasks_by_cost on geo.tasks (job_id, stage, (- cost_ms), task_key) where status in ('pending', 'running');

-- What each finished step worked on, and how busy its children were meanwhile. A step that was repeated adds to its row.
create table geo.chunks (
    job_id    text        not null references geo.jobs on delete cascade,
    run_id    text        not null,
    stage     text        not null,
    chunk     int         not null,                            -- its number in its stage
    files     int         not null,                            -- that it was planned with
    bytes     bigint      not null,
    cost_ms   bigint      not null,                            -- that was expected
    busy_ms   bigint      not null,                            -- of its children together
    files_ms  bigint      not null,                            -- that its files took together, with fetching them and putting outputs in place
    longest_ms bigint     not null,                            -- that one of them took
    wall_ms   bigint      not null,
    workers   int         not null,                            -- children that it may have at a time
    ended_at  timestamptz not null default clock_timestamp(),
    primary key (job_id, run_id, stage, chunk)
);

-- How long sources took: for each form of source and size the typical seconds and bytes, newer measurements counting more.
create table geo.costs (
    stage        text   not null,
    form         text   not null,                              -- what decides over the cost besides bytes: `raster .tif web`
    size         int    not null,                              -- binary digits of the bytes
    files        bigint not null check (files > 0),
    log_seconds  float8 not null,                              -- natural logarithms: few very long ones change little
    log_bytes    float8 not null,
    primary key (stage, form, size)
);
