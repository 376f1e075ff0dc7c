-- 0025_receipts.sql: receipts of jobs lie beside the COGs. Here: which jobs have none yet that says how they are now, and what an
-- item was when it was loaded, so that a change of it by others is noticed.

-- Of the item's row as it was loaded; null: it is not in the catalogue.
alter table geo.published add column item_hash text;

-- Pages of what is published, by name.
create index on geo.published (stac_item collate "C");
create index on geo.published (job_id, stac_item collate "C");

-- A hash of an item's row. Times as numbers: their text depends on the session.
create function geo.item_hash(i pgstac.items) returns text language sql stable as $$
    select encode(sha256(convert_to(concat_ws(' ', i.geometry::text, extract(epoch from i.datetime), extract(epoch from i.end_datetime),
                                              i.content::text), 'UTF8')), 'hex')
$$;
create function geo.item_hashes(p_collections text[], p_ids text[]) returns table (stac_item text, item_hash text) language sql stable as $$
    select i.collection || '/' || i.id, geo.item_hash(i)
      from pgstac.items i
     where i.collection = any(p_collections) and i.id = any(p_ids)
$$;

-- An earlier release kept none: changes are noticed that come after this.
update geo.published p set item_hash = geo.item_hash(i) from pgstac.items i
 where i.collection = split_part(p.stac_item, '/', 1) and i.id = substr(p.stac_item, strpos(p.stac_item, '/') + 1);

-- Changes that no receipt tells yet. Whoever writes one deletes those that it has seen. Append only: two that change the same job do
-- not wait for each other.
create table geo.receipt_changes (
    change  bigint       generated always as identity primary key,
    job_id  text         not null,
    at      timestamptz  not null default now()
);
create index on geo.receipt_changes (job_id);

-- Jobs that were made again from their receipts.
create table geo.rebuilds (
    job_id    text         primary key references geo.jobs on delete cascade,
    receipt   text         not null,                           -- alias/container/path
    begun_at  timestamptz  not null default now(),
    done_at   timestamptz                                      -- null: its items and tables may not be there yet
);

create function geo.note_receipts() returns trigger language plpgsql as $$
begin
    insert into geo.receipt_changes (job_id) select distinct job_id from changed where job_id is not null;
    return null;
end $$;
create trigger receipts_of_new after insert on geo.published
    referencing new table as changed for each statement execute function geo.note_receipts();
create trigger receipts_of_replacing after update on geo.published
    referencing new table as changed for each statement execute function geo.note_receipts();
create trigger receipts_of_replaced after update on geo.published
    referencing old table as changed for each statement execute function geo.note_receipts();
create trigger receipts_of_gone after delete on geo.published
    referencing old table as changed for each statement execute function geo.note_receipts();
create trigger receipts_of_withdrawn after insert on geo.tombstones
    referencing new table as changed for each statement execute function geo.note_receipts();

-- Jobs that read no container put out nothing that lasts, and have no receipt there.
create function geo.note_receipt_of_attempt() returns trigger language plpgsql as $$
begin
    insert into geo.receipt_changes (job_id) select job_id from geo.jobs where job_id = new.job_id and parameters ? 'collection';
    return null;
end $$;
create trigger receipt_of_ended after update on geo.attempts for each row
    when (new.outcome is not null and old.outcome is distinct from new.outcome) execute function geo.note_receipt_of_attempt();

-- What is said of a collection is told by the receipt of the job that published last in it.
create function geo.note_receipt_of_collection() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into geo.receipt_changes (job_id)
        select p.job_id from geo.published p
         where p.stac_item collate "C" >= new.id || '/' and p.stac_item collate "C" < new.id || '0'   -- '0' follows '/'
         order by p.at desc limit 1;
    return null;
end $$;
revoke all on function geo.note_receipt_of_collection() from public;
create trigger geo_receipts after update on pgstac.collections
    for each row when (old.content is distinct from new.content) execute function geo.note_receipt_of_collection();

-- Those that ended before there were receipts get theirs.
insert into geo.receipt_changes (job_id) select job_id from geo.jobs where parameters ? 'collection' order by created_at;
