-- 0038_tallies.sql: what has come to its end, counted as it ends. Rows that are counted are changed when something is done again, and may be
-- deleted later; what was counted stays. Append only, so that nobody waits for another; the janitor adds rows up to few.

create table geo.tallies (
    what        text    not null check (what in ('task', 'attempt', 'message')),
    name        text    not null,                              -- the stage, the type of the job, the channel of the message
    outcome     text    not null,
    error_code  text    not null default '',
    up_to       float8,                                        -- the bound of the seconds below; null: nobody measured them
    n           bigint  not null default 1,
    bytes       bigint  not null default 0,                    -- of sources; of messages
    seconds     float8  not null default 0                     -- that they took together
);

-- Seconds that durations are sorted by: from a thumbnail to a job that takes a day.
create function geo.duration_bounds() returns float8[] language sql immutable parallel safe
    return array[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600, 10000, 36000, 100000, 'infinity']::float8[];

create function geo.tally(p_what text, p_name text, p_outcome text, p_error_code text, p_bytes bigint, p_took interval) returns void language plpgsql as $$
declare
    took float8 := extract(epoch from p_took);
begin
    if took < 0 then                                           -- its end is of an earlier run
        took := null;
    end if;
    insert into geo.tallies (what, name, outcome, error_code, up_to, bytes, seconds)
    values (p_what, p_name, p_outcome, coalesce(p_error_code, ''), (geo.duration_bounds())[width_bucket(took, geo.duration_bounds()) + 1],
            coalesce(p_bytes, 0), coalesce(took, 0));
end $$;

create function geo.tally_task() returns trigger language plpgsql as $$
begin
    perform geo.tally('task', new.stage, new.status::text, new.error_code, new.bytes, new.finished_at - new.started_at);
    return null;
end $$;
create trigger tallied_at_once after insert on geo.tasks for each row
    when (new.status in ('succeeded', 'quarantined', 'failed', 'cancelled')) execute function geo.tally_task();
create trigger tallied after update of status on geo.tasks for each row
    when (new.status in ('succeeded', 'quarantined', 'failed', 'cancelled') and old.status <> new.status) execute function geo.tally_task();

-- An attempt after which the janitor asks for another never gets an outcome: its run died.
create function geo.tally_attempt() returns trigger language plpgsql as $$
begin
    perform geo.tally('attempt', j.job_type, coalesce(new.outcome, 'died'), new.error_code, null, new.ended_at - new.requested_at)
       from geo.jobs j where j.job_id = new.job_id;
    return null;
end $$;
create trigger tallied after update of outcome on geo.attempts for each row
    when (old.outcome is null and new.outcome is not null) execute function geo.tally_attempt();
create trigger tallied_death after insert on geo.attempts for each row
    when (new.requested_by = 'janitor') execute function geo.tally_attempt();

-- What becomes of poison afterwards is another thing than what came.
create function geo.tally_message() returns trigger language plpgsql as $$
begin
    perform geo.tally('message', split_part(new.source, ':', 1), new.state::text, new.error_code, new.size_bytes, new.handled_at - new.received_at);
    return null;
end $$;
create trigger tallied after update of state on geo.messages for each row
    when (old.state = 'received' and new.state <> 'received') execute function geo.tally_message();

-- What is known of the time before. How long it took is not: tasks that were repeated have the times of several runs.
insert into geo.tallies (what, name, outcome, error_code, n, bytes)
    select 'task', stage, status::text, coalesce(error_code, ''), count(*), sum(bytes) from geo.tasks
     where status in ('succeeded', 'quarantined', 'failed', 'cancelled') group by 1, 2, 3, 4
    union all
    select 'attempt', job_type, outcome, coalesce(error_code, ''), count(*), 0 from geo.attempts join geo.jobs using (job_id)
     where outcome is not null group by 1, 2, 3, 4
    union all
    select 'attempt', job_type, 'died', '', count(*), 0 from geo.attempts join geo.jobs using (job_id)
     where requested_by = 'janitor' group by 1, 2
    union all
    select 'message', split_part(source, ':', 1), case when state in ('replayed', 'discarded') then 'poison' else state::text end,
           coalesce(error_code, ''), count(*), sum(size_bytes) from geo.messages
     where state <> 'received' group by 1, 2, 3, 4;

-- Attempts that may be at work: few, of many.
create index on geo.attempts (job_id) where outcome is null;
