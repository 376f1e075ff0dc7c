-- 0003_status.sql: the state of a job, derived. Dagster's run storage is the only holder of run state,
-- the ledger the only holder of task state; nothing here is stored twice, so nothing can lag.

-- A function, not a join in the view: a view would pin Dagster's columns and block its migrations.
create function geo.newest_run(p_partition_key text)
returns table (run_id text, run_status text, created_at timestamptz, started_at timestamptz, ended_at timestamptz)
language plpgsql stable as $$
begin
    if to_regclass('dagster.runs') is null then
        return;                                                -- before Dagster's first start
    end if;
    return query
        select r.run_id::text, r.status::text, r.create_timestamp at time zone 'UTC', to_timestamp(r.start_time), to_timestamp(r.end_time)
          from dagster.run_tags t
          join dagster.runs r on r.run_id = t.run_id
         where t.key = 'dagster/partition' and t.value = p_partition_key
           and not exists (select from geo.stood_aside s where s.run_id = r.run_id)
         order by r.id desc
         limit 1;
end $$;

create function geo.status_of(p_run_status text, p_bad_tasks boolean) returns text language sql immutable as $$
    select case
        when p_run_status in ('QUEUED', 'NOT_STARTED') then 'queued'
        when p_run_status = 'SUCCESS' and p_bad_tasks  then 'completed_with_errors'
        when p_run_status = 'SUCCESS'                  then 'completed'
        when p_run_status = 'FAILURE'                  then 'failed'
        when p_run_status = 'CANCELED'                 then 'cancelled'
        else 'processing'                                      -- STARTING, STARTED, CANCELING, MANAGED, SUSPENDED
    end
$$;

create view geo.job_status as
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
           when r.run_id is null or (a.run_id is null and r.created_at < a.requested_at) then 'queued'
           else geo.status_of(r.run_status, exists (
               select from geo.tasks t
                where t.job_id = j.job_id and t.listed and t.status in ('failed', 'quarantined', 'pending', 'running', 'cancelled')))
       end as status
  from geo.jobs j
  join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
  left join lateral geo.newest_run(j.partition_key) r on true;

create view geo.stage_counts as
select job_id,
       stage,
       count(*)                                       as total,
       count(*) filter (where status = 'succeeded')   as succeeded,
       count(*) filter (where status = 'skipped')     as skipped,
       count(*) filter (where status = 'quarantined') as quarantined,
       count(*) filter (where status = 'failed')      as failed,
       count(*) filter (where status = 'running')     as running,
       count(*) filter (where status = 'pending')     as pending,
       count(*) filter (where status = 'cancelled')   as cancelled,
       min(started_at)                                as first_started_at
  from geo.tasks
 where listed
 group by job_id, stage;
