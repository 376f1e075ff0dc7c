-- 0017_reader_limits.sql: the reader writes nothing at all. Its sessions' limits are set by geo_assets/database/bootstrap.py, which runs before this.

-- pgstac's searches keep what was searched for; a reader could fill the disk with it. With `pgstac.readonly`, which an administrator sets for the reader,
-- they keep nothing. Where he may not set it, a search needs the right to write.
do $$ begin
    if exists (
        select from pg_db_role_setting s join pg_roles r on r.oid = s.setrole
         where r.rolname = 'geo_reader' and s.setdatabase = 0 and 'pgstac.readonly=true' = any (s.setconfig)
    ) then
        revoke insert, update on pgstac.searches, pgstac.search_wheres, pgstac.format_item_cache from pgstac_read;
    end if;
end $$;
