-- 0041_retention.sql: what stays of what is purged after some time: what a job's page says of its run, that a message came.

-- Runs that were deleted from Dagster because of their age, as Dagster told of them last.
create table geo.purged_runs (
    run_id      text        primary key,
    run_status  text        not null,
    created_at  timestamptz not null,
    started_at  timestamptz,
    ended_at    timestamptz
);

-- As before; where Dagster has no run of the job any more, what is known of that of its newest attempt. It still answers the reader
-- with the rights of the pipeline, for jobs alone (sql/0018_status_for_readers.sql).
create or replace function geo.newest_run(p_partition_key text)
returns table (run_id text, run_status text, created_at timestamptz, started_at timestamptz, ended_at timestamptz)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    if to_regclass('dagster.runs') is not null then            -- it is not before Dagster's first start
        return query
            select r.run_id::text, r.status::text, r.create_timestamp at time zone 'UTC', to_timestamp(r.start_time), to_timestamp(r.end_time)
              from dagster.run_tags t
              join dagster.runs r on r.run_id = t.run_id
              join geo.jobs j on j.partition_key = p_partition_key
              join lateral (select a.run_id from geo.attempts a where a.job_id = j.job_id order by a.attempt desc limit 1) newest on true
             where t.key = 'dagster/partition' and t.value = p_partition_key
               and (r.pipeline_name = j.job_type or r.pipeline_name::text ^@ '__ASSET_JOB')
               and not exists (select from geo.stood_aside s where s.run_id = r.run_id)
               and (r.status not in ('SUCCESS', 'FAILURE', 'CANCELED') or newest.run_id is null
                    or exists (select from geo.attempts b where b.run_id = r.run_id))
             order by r.id desc
             limit 1;
        if found then
            return;
        end if;
    end if;
    return query
        select p.run_id, p.run_status, p.created_at, p.started_at, p.ended_at
          from geo.jobs j
          join lateral (select a.run_id from geo.attempts a where a.job_id = j.job_id order by a.attempt desc limit 1) newest on true
          join geo.purged_runs p on p.run_id = newest.run_id
         where j.partition_key = p_partition_key;
end $$;

-- Since when only the record of a message is kept: where it came from, its size and hash, what became of it.
alter table geo.messages add column archived_at timestamptz;
create index on geo.messages (handled_at) where archived_at is null and state <> 'poison';
