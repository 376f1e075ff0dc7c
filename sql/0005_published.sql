-- 0005_published.sql: what is in the catalogue now, and for which input. Two jobs may publish the same item; the last one has it.

create table geo.published (
    stac_item    text        primary key,                      -- <collection>/<item id>
    job_id       text        not null references geo.jobs on delete cascade,
    stage        text        not null,
    task_key     text        not null,
    fingerprint  text        not null,
    outputs      jsonb       not null,
    at           timestamptz not null default now()
);
create index on geo.published (job_id);

-- Whether what a task put out is still what the catalogue has; a task without an item (a greeting) answers for itself.
create function geo.still_published(p_outputs jsonb, p_fingerprint text) returns boolean language sql stable as $$
    select p_outputs->>'stac_item' is null
        or exists (select from geo.published p where p.stac_item = p_outputs->>'stac_item' and p.fingerprint = p_fingerprint)
$$;
