-- 0002_ledger.sql: what was asked for, who works on it, and the account of every task.

-- One row per distinct request. The same request is the same row: job_id is the SHA-256 of its canonical form.
create table geo.jobs (
    job_id           text        primary key check (job_id ~ '^[0-9a-f]{64}$'),
    job_type         text        not null,
    parameters       jsonb       not null,                     -- validated, defaults filled in
    partition_key    text        not null unique check (partition_key ~ '^[a-z0-9_]{1,63}$'),
    submitted_by     text        not null,                     -- cli, api, sensor, …
    created_at       timestamptz not null default now(),
    -- the lease: at most one run owns a job; publishing transactions check that it is still theirs
    lease_run_id     text,
    lease_heartbeat  timestamptz,
    check ((lease_run_id is null) = (lease_heartbeat is null))
);
create index on geo.jobs (created_at);

-- One row per request to run a job. Attempt 1 is the submission; later ones are resubmissions, the UI, backfills.
create table geo.attempts (
    job_id        text        not null references geo.jobs on delete cascade,
    attempt       int         not null check (attempt >= 1),
    requested_by  text        not null,
    requested_at  timestamptz not null default now(),
    launched_at   timestamptz,                                 -- somebody took it upon themselves to launch it
    run_id        text        unique,                          -- the Dagster run that claimed it
    force         boolean     not null default false,          -- redo what is already done
    primary key (job_id, attempt)
);
create index on geo.attempts (requested_at) where run_id is null;

-- Runs that found their job owned by another run, and left it alone.
create table geo.stood_aside (
    run_id        text        primary key,
    job_id        text        not null references geo.jobs on delete cascade,
    owner_run_id  text        not null,
    at            timestamptz not null default now()
);

create type geo.task_status as enum ('pending', 'running', 'succeeded', 'skipped', 'quarantined', 'failed', 'cancelled');

-- One row per unit of work; the account that must always add up.
create table geo.tasks (
    job_id         text            not null references geo.jobs on delete cascade,
    stage          text            not null,
    task_key       text            not null,                   -- a source blob's path, or the index of a greeting
    kind           text            not null,                   -- raster, vector, unsupported, greeting, …
    status         geo.task_status not null default 'pending',
    listed         boolean         not null default true,      -- false: its source was not there at the last listing
    fingerprint    text            not null,                   -- of the input and the parameters: equal means nothing to redo
    input          jsonb           not null default '{}',      -- the source's members, or a greeting's index
    outputs        jsonb           not null default '{}',      -- what others may see
    receipt        jsonb,                                      -- input hashes -> outputs -> tool versions; the STAC stage reads it
    error_code     text,
    error_message  text,
    remedy         text,
    run_id         text            not null,                   -- the run that touched it last
    started_at     timestamptz,
    finished_at    timestamptz,
    primary key (job_id, stage, task_key),
    check ((status in ('failed', 'quarantined')) = (error_code is not null)),
    check ((error_code is null) = (error_message is null)),
    check (status not in ('succeeded', 'skipped') or outputs <> '{}')
);
create index on geo.tasks (job_id, stage, status);

-- What a container held when a job last looked. Rewritten by each run of the job; bounded memory at any size.
create table geo.inventory (
    job_id         text        not null references geo.jobs on delete cascade,
    path           text        not null,
    size           bigint      not null check (size >= 0),
    etag           text        not null,
    last_modified  timestamptz not null,
    folder         text        not null,
    stem           text        not null,                       -- lower case; groups a source with its sidecars
    primary key (job_id, path)
);

-- Names of published tables: the first source to ask for a name keeps it, for ever.
create table geo.table_names (
    table_name  text primary key check (octet_length(table_name) <= 50),
    account     text not null,
    container   text not null,
    path        text not null,
    layer       text not null,                                 -- '' where the format has one unnamed layer
    collection  text not null,
    unique (account, container, path, layer, collection)
);

-- A publishing transaction calls this first: it fails where the run no longer owns the job,
-- and holds off a take-over (which locks the row for update) until the transaction ends. Heartbeats pass.
create function geo.assert_lease(p_job_id text, p_run_id text) returns void language plpgsql as $$
begin
    perform from geo.jobs where job_id = p_job_id and lease_run_id = p_run_id for key share;
    if not found then
        raise exception 'run % does not hold the lease of job %', p_run_id, p_job_id using errcode = 'GA001';
    end if;
end $$;
