-- 0047_receipts_of_what_is_free_again.sql: once the name of a dropped table is free again, or the bands that a deleted collection took, the
-- receipts that tell of it are written anew: a rebuild would give both back to those who had them, whoever has them by then.

create function geo.note_receipts_of_names() returns trigger language plpgsql as $$
begin
    insert into geo.receipt_changes (job_id)
        select distinct j.job_id from changed c join geo.jobs j
            on (j.parameters->>'account', j.parameters->>'container', j.parameters->>'collection')
             = (c.account, c.container, c.collection)
         where exists (select from geo.attempts a where a.job_id = j.job_id and a.outcome is not null);
    return null;
end $$;
create trigger receipts_of_free after delete on geo.table_names
    referencing old table as changed for each statement execute function geo.note_receipts_of_names();

create function geo.note_receipts_of_bands() returns trigger language plpgsql as $$
begin
    insert into geo.receipt_changes (job_id)
        select distinct j.job_id from changed c join geo.jobs j on j.parameters->>'collection' = c.asked
         where exists (select from geo.attempts a where a.job_id = j.job_id and a.outcome is not null);
    return null;
end $$;
create trigger receipts_of_free after delete on geo.raster_collections
    referencing old table as changed for each statement execute function geo.note_receipts_of_bands();

-- Those that were free again before: nobody has written down which receipts tell of them.
insert into geo.receipt_changes (job_id)
    select j.job_id from geo.jobs j
     where j.parameters ? 'collection' and exists (select from geo.attempts a where a.job_id = j.job_id and a.outcome is not null)
     order by j.created_at;
