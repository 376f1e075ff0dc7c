-- 0046_beats.sql: a sign of life of a run that holds no lease: it waits for the first of its steps, or has ended its job.
create table geo.beats (
    run_id text        primary key,
    beat   timestamptz not null default now()
);
