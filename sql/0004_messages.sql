-- 0004_messages.sql: what arrived, byte for byte, and everything that went wrong, with its reason.

-- rejected: its sender was told at once (HTTP); poison: nobody was there to be told.
create type geo.message_state as enum ('received', 'accepted', 'rejected', 'poison', 'replayed', 'discarded');

-- One row per message of a source. It is written before the message is looked at, so it takes any bytes.
create table geo.messages (
    message_id      uuid              primary key default gen_random_uuid(),
    source          text              not null,                -- http, blob:default/submissions, queue:geospatial-jobs
    source_id       text              not null,                -- the queue's message id, the blob's path and etag, the request's id
    correlation_id  text              not null,
    received_at     timestamptz       not null default now(),
    deliveries      int               not null default 1,      -- how often we saw it
    dequeue_count   int               not null default 1,      -- how often the source says it gave it out
    body            bytea             not null,                -- as it came; text and jsonb would refuse NUL
    size_bytes      bigint            not null,                -- of the whole message, also where body was cut
    sha256          text              not null,
    head            text              not null,                -- the first 500 characters, escaped, for people
    state           geo.message_state not null default 'received',
    job_type        text,
    job_id          text,                                      -- accepted: the job; poison: the id that could be recovered
    error_code      text,
    error_message   text,
    handled_at      timestamptz,
    unique (source, source_id),
    check ((state = 'received') = (handled_at is null)),
    check (state not in ('rejected', 'poison') or error_code is not null)       -- each has its reason
);
create index on geo.messages (received_at);
create index on geo.messages (state, received_at);

-- Every failure of a message, a job or a run: append only.
create table geo.errors (
    error_id        bigint            generated always as identity primary key,
    at              timestamptz       not null default now(),
    severity        text              not null check (severity in ('info', 'warning', 'error', 'alert')),
    code            text              not null,
    error_class     text              not null,
    message         text              not null,
    remedy          text              not null,
    excerpt         text,                                      -- the first 1,000 characters of the message, escaped
    message_id      uuid              references geo.messages on delete cascade,
    job_id          text,                                      -- as named; the job need not exist
    run_id          text,
    correlation_id  text
);
create index on geo.errors (at);
create index on geo.errors (job_id) where job_id is not null;
create index on geo.errors (message_id) where message_id is not null;

-- How an attempt ended, where Dagster cannot know: it never ran, or it was ended on purpose.
alter table geo.attempts
    add column outcome       text check (outcome in ('failed', 'cancelled')),
    add column error_code    text,
    add column error_message text,
    add check ((outcome is null) = (error_code is null));

-- Circuit breakers: shared by all processes, because each step and each tick may be a new one.
create table geo.circuits (
    name       text        primary key,
    state      text        not null default 'closed' check (state in ('closed', 'open', 'half-open')),
    failures   int         not null default 0,
    opened_at  timestamptz,
    reason     text
);

-- Tokens of the HTTP API, hashed.
create table geo.api_tokens (
    name        text        primary key,
    sha256      text        not null unique,
    scopes      text[]      not null check (scopes <@ array['submit', 'read', 'admin']),
    created_at  timestamptz not null default now(),
    revoked_at  timestamptz
);
revoke all on geo.api_tokens from geo_reader;
revoke all on geo.messages from geo_reader;                    -- raw bodies may hold what is nobody's business

-- What an attempt's outcome says counts before what Dagster's run says: a run that was told to stop may end as failed.
create or replace view geo.job_status as
select j.job_id,
       j.job_type,
       j.parameters,
       j.partition_key,
       j.submitted_by,
       j.created_at,
       a.attempt,
       r.run_id,
       r.started_at,
       r.ended_at,
       case
           when a.outcome is not null and (r.run_id is null or r.created_at < a.requested_at or r.run_status in ('FAILURE', 'CANCELED')) then a.outcome
           when r.run_id is null or (a.run_id is null and r.created_at < a.requested_at) then 'queued'
           when a.outcome is null and r.run_status = 'FAILURE' then 'processing'       -- it died; the janitor decides within its next round
           when a.outcome is null and r.run_status = 'CANCELED' then 'cancelled'
           else geo.status_of(r.run_status, exists (
               select from geo.tasks t
                where t.job_id = j.job_id and t.listed and t.status in ('failed', 'quarantined', 'pending', 'running', 'cancelled')))
       end as status,
       case when a.outcome is not null then a.error_code end    as error_code,
       case when a.outcome is not null then a.error_message end as error_message
  from geo.jobs j
  join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
  left join lateral geo.newest_run(j.partition_key) r on true;

-- Messages without their bodies: for people, the API and the reader.
create view geo.message_heads as
select message_id::text, source, source_id, state::text, correlation_id, size_bytes, sha256, received_at, handled_at, deliveries, dequeue_count,
       head, job_type, job_id, error_code, error_message
  from geo.messages;
