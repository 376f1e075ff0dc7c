-- 0036_fatal_files.sql: files during whose work a process died.

-- Who works on a task: host/pid, as in geo.steps. It counts only as long as a step of that process is recorded there.
alter table geo.tasks add column process text;

-- A source in a stage, whichever job asks for it: its place and the etags and sizes of its files. What is of no container belongs to its job.
create function geo.file_key(job_id text, parameters jsonb, stage text, task_key text, input jsonb) returns text
    language sql immutable parallel safe
    return encode(sha256(convert_to(jsonb_build_array(coalesce(parameters->>'account', 'default'), coalesce(parameters->>'container', job_id), stage,
        task_key, input)::text, 'UTF8')), 'hex');

-- What the process of a step had in work when another run took its job over, as keys. The process may be dead, or not know yet that it lost
-- its job: then it ends its step within seconds.
alter table geo.steps add column in_work text[];

create table geo.fatal_files (
    file        text        primary key,                       -- geo.file_key
    deaths      int         not null check (deaths > 0),
    process     text        not null,                          -- that died last
    job_id      text        not null,                          -- whose run it worked for
    died_at     timestamptz not null default now()
);
create index on geo.fatal_files (job_id);
