-- 0044_metrics.sql: what the metrics ask beside what ended: sizes of messages, what is tried again, and files that a store refuses.

alter table geo.tallies drop constraint tallies_what_check;
alter table geo.tallies add check (what in ('task', 'attempt', 'message', 'message size', 'retry'));

-- Bytes that messages are sorted by; the last but one is the most that is taken.
create function geo.size_bounds() returns float8[] language sql immutable parallel safe
    return array[100, 300, 1000, 3000, 10000, 30000, 65536, 'infinity']::float8[];

create function geo.tally_size() returns trigger language plpgsql as $$
begin
    insert into geo.tallies (what, name, outcome, up_to, bytes)
    values ('message size', split_part(new.source, ':', 1), '',
            (select min(bound) from unnest(geo.size_bounds()) bound where new.size_bytes <= bound), new.size_bytes);
    return null;
end $$;
create trigger sized after insert on geo.messages for each row execute function geo.tally_size();

-- What was waited for, or is tried again: a store that does not answer, once for each run; a run that died.
create function geo.tally_retry() returns trigger language plpgsql as $$
begin
    insert into geo.tallies (what, name, outcome, error_code)
    values ('retry', case new.code when 'RUN_DIED' then 'run' when 'STORAGE_UNAVAILABLE' then 'storage' when 'CIRCUIT_OPEN' then 'storage'
                     else 'other' end, '', new.code);
    return null;
end $$;
create trigger tallied_retry after insert on geo.errors for each row
    when (new.error_class = 'transient' and not (new.code = 'RUN_DIED' and new.severity = 'alert')) execute function geo.tally_retry();

-- Files that a store refuses to give: few, of many.
create index tasks_refused on geo.tasks (job_id) where error_code = 'STORAGE_FORBIDDEN' and listed;
