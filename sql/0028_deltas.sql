-- 0028_deltas.sql: what a delivery changed, file by file, written down as it happens: later jobs publish over it.

-- Attempts that deliver the same: a submission, and what goes on with it (a rescue, a retry, a submission after one that failed).
alter table geo.attempts add column delivery int;              -- null: an older release asked for it

-- A hash of the input's bytes, of the parameters that shape the output, and of the output. The fingerprint knows etags only.
alter table geo.published add column content text;             -- null: an older release published it
create index on geo.published (task_key);
create index on geo.inventory (job_id, path collate "C");      -- whether anything lies in a folder

create type geo.delta as enum ('new', 'changed', 'gone', 'unchanged');

-- Of the newest delivery of each job. A file that could not be processed is not here: the account of tasks names it.
create table geo.deltas (
    job_id     text      not null references geo.jobs on delete cascade,
    delivery   int       not null,
    stage      text      not null,
    task_key   text      not null,
    what       geo.delta not null,
    withdrawn  boolean,                                        -- of what is gone: whether its results were withdrawn
    before     text,                                           -- the content that was published before the delivery; null: nothing was
    primary key (job_id, delivery, stage, task_key),
    check ((what = 'gone') = (withdrawn is not null)),
    check ((what = 'new') = (before is null))
);

create function geo.delivery_of(p_run_id text) returns int language sql stable as $$
    select coalesce((select delivery from geo.attempts where run_id = p_run_id), 0)
$$;

-- What is published, to be compared: where an older release published it, its fingerprint.
create function geo.content_of(p geo.published) returns text language sql immutable as $$
    select coalesce(p.content, 'fingerprint ' || p.fingerprint)
$$;
