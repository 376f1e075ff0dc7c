-- 0049_what_is_put_back_is_no_news.sql: rows that a rebuild puts back tell of times long ago: nobody hears of them, and no counter moves.

-- Whether rows are of now: a rebuild says in its transaction that they are not.
create function geo.is_news() returns boolean language sql stable
    return coalesce(current_setting('geo_assets.putting_back', true), '') <> 'on';

drop trigger alerted_death on geo.attempts;
create trigger alerted_death after insert on geo.attempts for each row
    when (new.requested_by = 'janitor' and geo.is_news()) execute function geo.alert_of_death();

drop trigger tallied_death on geo.attempts;
create trigger tallied_death after insert on geo.attempts for each row
    when (new.requested_by = 'janitor' and geo.is_news()) execute function geo.tally_attempt();

drop trigger tallied_at_once on geo.tasks;
create trigger tallied_at_once after insert on geo.tasks for each row
    when (new.status in ('succeeded', 'quarantined', 'failed', 'cancelled') and geo.is_news()) execute function geo.tally_task();
