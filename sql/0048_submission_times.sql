-- 0048_submission_times.sql: an attempt that goes on with a submission is no later submission: of two loads of a table the one submitted last stays.

alter table geo.attempts add column submitted_at timestamptz;  -- of the submission that it goes on with; null: it is one itself

-- Those of the janitor that have not ended yet go on with the attempt that somebody else asked for last.
update geo.attempts a set submitted_at = (
    select b.requested_at from geo.attempts b
     where b.job_id = a.job_id and b.attempt < a.attempt and b.requested_by <> 'janitor'
     order by b.attempt desc limit 1)
 where a.requested_by = 'janitor' and a.outcome is null;
