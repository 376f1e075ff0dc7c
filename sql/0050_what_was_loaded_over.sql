-- 0050_what_was_loaded_over.sql: a table that somebody loaded another file into is no longer what its job published: the next submission loads it
-- again, verify and reconcile tell of it.

-- The newest load that took a table from a source, or added to what the source had replaced it with; none if the table is still the source's.
-- A version that was called back is what people want: nothing of before it counts. To a table that its job appends to, others may append.
create function geo.loaded_over(p_table text, p_job_id text, p_task_key text) returns setof geo.vector_loads language sql stable as $$
    select v.*
      from geo.jobs j
      cross join lateral (
            select o.load_id, o.mode from geo.vector_loads o
             where o.table_name = p_table
               and o.source = concat_ws('/', j.parameters->>'account', j.parameters->>'container', p_task_key)
             order by o.load_id desc limit 1) own
      join geo.vector_loads v on v.table_name = p_table and v.load_id > own.load_id
     where j.job_id = p_job_id
       and (v.mode = 'replace' or v.mode <> 'rollback' and own.mode = 'replace')
       and not exists (select from geo.vector_loads r where r.table_name = p_table and r.mode = 'rollback' and r.load_id > v.load_id)
     order by v.load_id desc limit 1
$$;

-- As before, and the tables of what was put out hold it still.
create or replace function geo.still_published(p_outputs jsonb, p_fingerprint text) returns boolean language sql stable as $$
    select p_outputs->>'stac_item' is null
        or exists (select from geo.published p where p.stac_item = p_outputs->>'stac_item' and p.fingerprint = p_fingerprint
            and not exists (select from jsonb_path_query(p_outputs, '$.tables[*]') made,
                                        geo.loaded_over(made->>'table', p.job_id, p.task_key)))
$$;
