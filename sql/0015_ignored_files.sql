-- 0015_ignored_files.sql: the inventory names every blob of a listing, also those that are left alone, so that each is accounted for.

alter table geo.inventory add column ignored text;             -- why it is left alone; null: it is worked on
