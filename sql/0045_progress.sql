-- 0045_progress.sql: how long work that is done took, and what is being done right now.

-- From the beginning of its work until its outputs were in place: it may wait for the catalogue for long after that.
alter table geo.tasks add column took_ms int check (took_ms >= 0);

-- What a step does, and what its process was seen to do at its last sign of life: its memory, and each of its children with its file.
alter table geo.steps
    add column doing    text        not null default '',       -- `cogs, chunk 3`
    add column workers  int         not null default 0,         -- children that it may have at a time; 0: it works on no file
    add column begun_at timestamptz not null default now(),
    add column seen     jsonb       not null default '{}';
