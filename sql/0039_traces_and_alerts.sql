-- 0039_traces_and_alerts.sql: the id by which all that is said of a submission is found, and what somebody is to hear of.

-- Of the message, or the header, that asked for the attempt; the janitor's go on with that of the attempt whose run died.
alter table geo.attempts
    add column correlation_id text not null default gen_random_uuid()::text,
    add column traceparent    text;                            -- of W3C Trace Context, where the sender traces

-- One row per event that somebody is to hear of, written in the commit of the event: whoever dies before it is sent leaves it here.
-- Who sends it takes it by moving its next try, so a sender that dies, or a webhook that does not answer, delays it.
create table geo.alerts (
    alert_id        bigint      generated always as identity primary key,
    event           text        not null unique,               -- of the same event there is one
    kind            text        not null check (kind in ('job_failed', 'bad_files', 'run_died', 'note', 'poison')),
    job_id          text        references geo.jobs on delete cascade,
    attempt         int,
    error_code      text,
    error_message   text,
    correlation_id  text,
    at              timestamptz not null default now(),
    tries           int         not null default 0,
    next_try_at     timestamptz not null default now(),
    sent_at         timestamptz,
    fault           text                                       -- why the last try failed
);
create index on geo.alerts (next_try_at) where sent_at is null;
create index on geo.alerts (at);

create function geo.alert(p_event text, p_kind text, p_job_id text, p_attempt int, p_error_code text, p_error_message text, p_correlation_id text)
returns void language sql as $$
    insert into geo.alerts (event, kind, job_id, attempt, error_code, error_message, correlation_id)
    values (p_event, p_kind, p_job_id, p_attempt, p_error_code, p_error_message, p_correlation_id) on conflict (event) do nothing
$$;

-- A job that is completed is an event if this attempt found a file bad; one that was known to be bad before is no news.
create function geo.alert_of_attempt() returns trigger language plpgsql as $$
begin
    if new.outcome = 'failed' then
        perform geo.alert(format('%s/%s ended', new.job_id, new.attempt), 'job_failed', new.job_id, new.attempt, new.error_code, new.error_message, new.correlation_id);
    elsif new.outcome = 'completed' and exists (
            select from geo.tasks t where t.job_id = new.job_id and t.listed and t.status in ('failed', 'quarantined') and t.finished_at >= new.requested_at) then
        perform geo.alert(format('%s/%s ended', new.job_id, new.attempt), 'bad_files', new.job_id, new.attempt, null, null, new.correlation_id);
    end if;
    return null;
end $$;
create trigger alerted after update of outcome on geo.attempts for each row
    when (old.outcome is null and new.outcome in ('completed', 'failed')) execute function geo.alert_of_attempt();

-- The janitor asks for an attempt when the run of the one before it died.
create function geo.alert_of_death() returns trigger language plpgsql as $$
begin
    perform geo.alert(format('%s/%s died', new.job_id, new.attempt - 1), 'run_died', new.job_id, new.attempt - 1, 'RUN_DIED', null, new.correlation_id);
    return null;
end $$;
create trigger alerted_death after insert on geo.attempts for each row
    when (new.requested_by = 'janitor') execute function geo.alert_of_death();

-- What is noted for somebody to look at, beside the end of an attempt, which is an event of its own.
create function geo.alert_of_note() returns trigger language plpgsql as $$
begin
    perform geo.alert(format('note %s', new.error_id), 'note', (select job_id from geo.jobs where job_id = new.job_id), null, new.code, new.message, new.correlation_id);
    return null;
end $$;
create trigger alerted after insert on geo.errors for each row
    when (new.severity = 'alert' and new.code not in ('RUN_DIED', 'UNHANDLED_POISON')) execute function geo.alert_of_note();

create function geo.alert_of_message() returns trigger language plpgsql as $$
begin
    perform geo.alert(format('message %s', new.message_id), 'poison', null, null, new.error_code, new.error_message, new.correlation_id);
    return null;
end $$;
create trigger alerted after update of state on geo.messages for each row
    when (old.state = 'received' and new.state = 'poison') execute function geo.alert_of_message();
