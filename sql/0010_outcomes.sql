-- 0010_outcomes.sql: how an attempt ended is the ledger's own knowledge: Dagster's runs may be deleted, by hand or by retention.

alter table geo.attempts
    drop constraint attempts_outcome_check,
    drop constraint attempts_check,
    add column started_at timestamptz,                         -- its run became the owner of the job
    add column ended_at   timestamptz,                         -- its outcome was written down
    add constraint attempts_outcome_check check (outcome in ('completed', 'failed', 'cancelled')),
    add constraint attempts_reason_check check ((outcome in ('failed', 'cancelled')) is not true = (error_code is null));

-- The newest run that counts for a job: one of its own job type, or of single assets, that did not stand aside. A run that ended
-- without having claimed anything counts only while the newest attempt still waits for its run.
create or replace function geo.newest_run(p_partition_key text)
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
          join geo.jobs j on j.partition_key = p_partition_key
          join lateral (select a.run_id from geo.attempts a where a.job_id = j.job_id order by a.attempt desc limit 1) newest on true
         where t.key = 'dagster/partition' and t.value = p_partition_key
           and (r.pipeline_name = j.job_type or r.pipeline_name::text ^@ '__ASSET_JOB')
           and not exists (select from geo.stood_aside s where s.run_id = r.run_id)
           and (r.status not in ('SUCCESS', 'FAILURE', 'CANCELED') or newest.run_id is null
                or exists (select from geo.attempts b where b.run_id = r.run_id))
         order by r.id desc
         limit 1;
end $$;

-- Whether somebody asked Dagster to end a run, however it then ended: told to stop, a worker may still die or fail.
create function geo.was_terminated(p_run_id text) returns boolean language plpgsql stable as $$
begin
    if to_regclass('dagster.event_logs') is null then
        return false;
    end if;
    return exists (select from dagster.event_logs e where e.run_id = p_run_id and e.dagster_event_type in ('PIPELINE_CANCELING', 'PIPELINE_CANCELED'));
end $$;

-- An outcome that is written down decides. Only a run that is newer than the newest attempt, and alive, says more: somebody
-- launched the job again. Without an outcome the attempt's own run says how far it is; one that is gone says nothing, and the
-- janitor decides.
create or replace view geo.job_status as
select j.job_id,
       j.job_type,
       j.parameters,
       j.partition_key,
       j.submitted_by,
       j.created_at,
       a.attempt,
       coalesce(r.run_id, a.run_id)                                                        as run_id,
       coalesce(r.started_at, case when r.run_id is null then a.started_at end)            as started_at,
       coalesce(r.ended_at, case when r.run_id is null or r.run_id = a.run_id then a.ended_at end) as ended_at,
       case
           when r.run_id <> a.run_id and r.run_status not in ('SUCCESS', 'FAILURE', 'CANCELED') then geo.status_of(r.run_status, false)
           when a.outcome in ('failed', 'cancelled') then a.outcome
           when a.outcome = 'completed' and r.run_id = a.run_id and r.run_status not in ('SUCCESS', 'FAILURE', 'CANCELED')
                and a.ended_at > now() - interval '30 seconds' then 'processing'                              -- Dagster closes its run
           when a.outcome is null and a.run_id is null and r.run_id is null then 'queued'
           when a.outcome is null and r.run_id is distinct from coalesce(a.run_id, r.run_id) then 'processing'  -- its run was deleted
           when a.outcome is null and r.run_status = 'FAILURE' then 'processing'                               -- its run died
           else geo.status_of(case when a.outcome is null then r.run_status else 'SUCCESS' end, exists (
               select from geo.tasks t
                where t.job_id = j.job_id and t.listed and t.status in ('failed', 'quarantined', 'pending', 'running', 'cancelled')))
       end as status,
       case when a.outcome is not null then a.error_code end    as error_code,
       case when a.outcome is not null then a.error_message end as error_message
  from geo.jobs j
  join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
  left join lateral (
       select n.* from geo.newest_run(j.partition_key) n where n.run_id = a.run_id or n.created_at >= a.requested_at) r on true;

-- What is known of the runs so far, before any of them is deleted; of those that are, the tasks say what they came to.
do $$
begin
    if to_regclass('dagster.runs') is null then
        return;
    end if;
    update geo.attempts a
       set outcome = 'completed', started_at = to_timestamp(r.start_time), ended_at = to_timestamp(r.end_time)
      from dagster.runs r
     where r.run_id = a.run_id and r.status = 'SUCCESS' and a.outcome is null;
    update geo.attempts a
       set outcome = 'completed', ended_at = now()
     where a.run_id is not null and a.outcome is null
       and not exists (select from dagster.runs r where r.run_id = a.run_id)
       and not exists (select from geo.tasks t where t.job_id = a.job_id and t.listed and t.status in ('pending', 'running'))
       and exists (select from geo.tasks t where t.job_id = a.job_id and t.listed);
end $$;

-- Each job type has a set of partitions of its own (docs/decisions/0019): Dagster offers a job only what fits it.
do $$
begin
    if to_regclass('dagster.dynamic_partitions') is null then
        return;
    end if;
    insert into dagster.dynamic_partitions (partitions_def_name, partition, create_timestamp)
    select j.job_type, p.partition, p.create_timestamp
      from dagster.dynamic_partitions p
      join geo.jobs j on j.partition_key = p.partition
     where p.partitions_def_name = 'submissions'
     order by p.id
        on conflict do nothing;
    delete from dagster.dynamic_partitions p using geo.jobs j where p.partitions_def_name = 'submissions' and j.partition_key = p.partition;
end $$;
