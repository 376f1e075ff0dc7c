"""The faults that the product must survive: what is done to it, what must hold, and the tests that show it.

    make faults-list       # the rows
    make faults            # run their tests, and print what became of each row
    python -m geo_assets_tests.faults.matrix --run 13 16 17

Here: the rows, and running their tests. Not here: the tests. A row without a test says why there is none.

What must hold after every fault, beside what a row says: a submission that was acknowledged has ended or still waits; of
the same bytes and parameters there is one COG and one item; nobody sees a part of a result; no message is lost without
a record; what was done before is not done again; dead work is found within a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `tests` are `file::test` below `geo_assets_tests`."""

    number: int
    fault: str
    injected: str
    holds: str
    tests: tuple[str, ...] = ()
    why_not: str = ""


_BOUNDARY, _INBOXES, _SLOW = "intake/test_boundary.py", "intake/test_inboxes.py", "faults/test_slow_faults.py"
_LIFE, _API, _PUBLICATION = "intake/test_lifecycle.py", "intake/test_api.py", "faults/test_publication_faults.py"
_CRASH = f"{_BOUNDARY}::test_a_process_killed_at_a_crash_point_loses_nothing_when_the_message_comes_again"
_SUPERVISOR, _WAITS = "local/test_supervisor.py", "integration/test_long_waits.py"

ROWS = (
    Row(
        1, "the receiver dies before a message has a record", "crash point", "it comes again, and is one job", (_CRASH,)
    ),
    Row(
        2, "… after the record, before the job", "crash point", "the record is there, the message is one job", (_CRASH,)
    ),
    Row(
        3,
        "… after the job, before the message is deleted",
        "crash point",
        "a second delivery starts nothing",
        (_CRASH,),
    ),
    Row(
        4,
        "… after the copy to poison, before the original is deleted",
        "crash point",
        "two copies, one record",
        (f"{_INBOXES}::test_a_process_killed_between_the_record_and_the_queue_loses_and_doubles_nothing",),
    ),
    Row(
        5,
        "no database for three minutes while malformed messages arrive",
        "PostgreSQL stopped",
        "poison stays empty, then each has a record",
        (
            f"{_SLOW}::test_3_minutes_without_the_database_while_malformed_messages_arrive_poison_stays_empty_and_then_all_are_recorded",
            f"{_INBOXES}::test_while_the_database_is_away_nothing_is_dequeued_and_poison_stays_empty",
        ),
    ),
    Row(
        6,
        "one message delivered 20 times at once",
        "20 processes, 20 connections",
        "one job, one attempt",
        (
            f"{_SLOW}::test_20_processes_deliver_one_message_and_there_is_one_job_with_one_attempt",
            f"{_BOUNDARY}::test_the_same_message_delivered_20_times_in_parallel_by_20_connections_is_one_job_with_one_attempt",
        ),
    ),
    Row(
        7,
        "hostile bodies: NUL, lone surrogates, depth, size, no UTF-8",
        "2,000 generated messages",
        "each has a record in 50 ms, none raises",
        (
            f"{_SLOW}::test_2000_hostile_messages_each_have_a_record_and_none_takes_longer_than_50_ms",
            f"{_BOUNDARY}::test_a_hostile_message_is_kept_whole_and_has_an_error_record",
        ),
    ),
    Row(
        8,
        "bodies that make a careless expression search for ever",
        "generated bodies of 64 KiB",
        "the id is looked for in milliseconds",
        (f"{_BOUNDARY}::test_no_bytes_make_the_reader_raise_anything_but_a_plain_error_or_take_long",),
    ),
    Row(
        9,
        "poison for a job that failed, completed, works, is dead, is unknown",
        "messages put there",
        "five outcomes, none changes a good result",
        tuple(
            f"{_BOUNDARY}::{name}"
            for name in (
                "test_poison_for_a_failed_job_is_expected",
                "test_poison_for_a_completed_job_leaves_its_result_alone_with_a_warning",
                "test_poison_for_a_job_at_work_leaves_it",
                "test_poison_for_a_job_that_nobody_works_on_fails_it_and_alerts",
                "test_poison_that_names_an_unknown_job_is_an_orphan",
            )
        ),
    ),
    Row(
        10,
        "the client of a submission is gone before the answer",
        "the same request again",
        "the same job",
        (
            f"{_LIFE}::test_the_same_request_while_queued_asks_for_nothing",
            f"{_LIFE}::test_the_same_request_while_processing_asks_for_nothing",
        ),
    ),
    Row(
        11,
        "clients that send a byte now and then",
        "220 sockets",
        "probes answer, the sockets are closed",
        ("web/test_slow_clients.py::test_while_220_clients_never_end_what_they_began_a_probe_is_answered",),
    ),
    Row(
        12,
        "a manifest that two take at once, or whose taker is gone",
        "two drains; a claim that is left behind",
        "taken once, and taken up again",
        (
            f"{_INBOXES}::test_two_drains_at_once_take_each_manifest_once",
            f"{_INBOXES}::test_an_abandoned_claim_is_taken_up_again",
        ),
    ),
    Row(
        13,
        "the daemon is killed while submissions come",
        "kill -9 six times among 200 submissions",
        "200 jobs, none run twice",
        (f"{_SLOW}::test_200_submissions_racing_with_6_kills_of_the_daemon_are_200_jobs_none_run_twice",),
    ),
    Row(
        14,
        "two launchers for one attempt",
        "threads and processes at the same time",
        "one run owns the job, the other stands aside",
        (
            f"{_LIFE}::test_an_attempt_is_launched_by_exactly_one_of_many",
            f"{_LIFE}::test_a_second_run_of_a_job_at_work_stands_aside_and_is_not_taken_for_it",
        ),
    ),
    Row(
        15,
        "the sensor was away for long",
        "attempts left without a launch",
        "the oldest is launched first, each once",
        (
            "intake/test_launching.py::test_what_a_process_had_accepted_that_was_killed_is_launched_by_the_sensor_in_its_order",
            "faults/test_time_zones.py::test_a_run_that_waits_in_the_queue_for_long_is_launched_once_in_any_time_zone",
        ),
    ),
    Row(
        16,
        "a run is killed while its steps live on",
        "kill -9 of the run",
        "what they still write is refused",
        ("faults/test_steps_apart.py::test_steps_whose_run_was_killed_publish_nothing_twice",),
    ),
    Row(
        17,
        "a step is killed anywhere in a file's way",
        "kill -9 at crash points",
        "the next attempt completes it, nothing twice",
        (
            f"{_SLOW}::test_whatever_is_killed_in_mid_ingest_the_job_is_completed_by_the_next_attempt",
            "faults/test_steps_apart.py::test_a_killed_step_costs_a_new_attempt_and_nothing_else",
        ),
    ),
    Row(
        18,
        "a file takes its reader's memory, or the reader itself, twice",
        "a limit of memory; a file that kills",
        "it is quarantined, the others are published",
        (
            "sandbox/test_pool.py::test_a_file_that_kills_its_reader_twice_is_condemned_and_the_pool_lives_on",
            "faults/test_fatal_file.py::test_a_file_that_kills_two_steps_is_quarantined_and_the_others_are_published",
        ),
    ),
    Row(
        19,
        "a worker freezes and thaws",
        "SIGSTOP, SIGCONT",
        "its job is taken over, and it writes nothing afterwards",
        (
            "faults/test_steps_apart.py::test_a_frozen_step_is_found_and_finds_its_job_gone_when_it_thaws",
            "celery/test_runs_on_workers.py::test_a_run_whose_worker_is_frozen_is_done_by_the_other_and_writes_nothing_when_it_thaws",
        ),
    ),
    Row(
        20,
        "the code server, and with it a run, is lost",
        "kill -9",
        "found, and done by the next attempt",
        (
            f"{_SUPERVISOR}::test_every_part_that_is_killed_comes_back_and_the_stack_works",
            "faults/test_killed_run.py::test_a_run_starts_after_the_process_that_run_workers_are_forked_from_was_killed",
        ),
    ),
    Row(
        21,
        "everything is told to stop during the fan-out",
        "SIGTERM",
        "the next run does the rest",
        (
            "faults/test_terminate.py::test_terminate_during_conversions_ends_the_run_its_children_and_its_job_and_the_next_run_does_the_rest",
        ),
    ),
    Row(
        22,
        "all processes at once are gone, the database too",
        "kill -9 of the tree",
        "it starts again, the job ends",
        (
            "integration/test_bring_your_own_dagster.py::test_dagster_dev_that_is_killed_in_the_middle_of_a_job_and_started_again_ends_it_exactly",
            f"{_SUPERVISOR}::test_postgresql_that_is_killed_comes_back",
        ),
    ),
    Row(
        23,
        "PostgreSQL crashes, or a run ends in mid-publication",
        "its processes killed; a lock as barrier",
        "all of a file is visible, or nothing",
        (
            "local/test_postgresql.py::test_start_waits_for_a_server_that_recovers_from_the_crash_of_one_of_its_processes",
            f"{_PUBLICATION}::test_a_run_that_ends_between_item_load_and_ledger_commit_leaves_no_item_that_the_ledger_does_not_know",
        ),
    ),
    Row(
        24,
        "the server ends every connection",
        "pg_terminate_backend",
        "they are replaced, nobody's file is bad",
        (
            "defs/test_storage.py::test_connections_that_the_server_closed_are_replaced_before_they_are_used",
            f"{_WAITS}::test_a_connection_that_was_ended_for_being_idle_is_no_fault_of_ours",
        ),
    ),
    Row(
        25,
        "the database is silent for a while",
        "it is stopped, or answers nothing",
        "what waits can be cancelled, and goes on",
        (
            "faults/test_terminate.py::test_cancel_ends_a_run_that_waits_for_the_database_at_once",
            "defs/test_lease.py::test_a_heartbeat_that_finds_the_database_away_is_tried_again",
        ),
    ),
    Row(
        26,
        "no connection is left",
        "a role's limit of connections set to zero",
        "the job stops, no file is bad, the server says 503",
        ("stages/test_table_files.py::test_a_database_that_takes_no_connection_stops_the_job_and_makes_no_file_bad",),
    ),
    Row(
        27,
        "somebody else holds a lock",
        "an open transaction",
        "who waits says so, and others go on",
        (
            "serving/test_attacks.py::test_a_busy_database_is_told_in_seconds_and_does_not_keep_files_and_callers_waiting",
            "stages/test_raster_collections.py::test_the_lock_of_a_collection_that_nobody_expected_is_not_waited_for",
        ),
    ),
    Row(
        28,
        "jobs that write one collection at the same time",
        "four jobs",
        "all complete, nothing twice",
        ("integration/test_full_size_jobs.py::test_four_jobs_at_once_write_one_monthly_collection_while_two_search",),
    ),
    Row(
        29,
        "the database's disk is full",
        "a small disk of its own, filled, where the tests may mount one",
        "jobs wait, and go on when there is room",
        (
            "faults/test_database_disk.py::test_jobs_wait_while_the_disk_of_the_database_is_full_and_go_on_when_there_is_room",
        ),
    ),
    Row(
        30,
        "the scratch directory is full",
        "a limit of the disk that children may use",
        "DISK_FULL or TOO_LARGE, and what was written is gone",
        (
            "sandbox/test_pool.py::test_a_nearly_full_disk_stops_whoever_is_at_work",
            "sandbox/test_pool.py::test_a_file_that_fills_the_disk_is_stopped_and_what_it_wrote_is_gone",
        ),
    ),
    Row(
        31,
        "nobody knows whether a commit was done",
        "a run ended right after its commit",
        "it is looked up, nothing is there twice",
        (f"{_LIFE}::test_a_run_that_succeeded_and_could_not_say_so_is_written_down_as_completed",),
    ),
    Row(
        32,
        "the store is away",
        "the emulator stopped",
        "waited for, the circuit opens and closes",
        (
            "integration/test_azure.py::test_a_store_that_goes_away_in_the_middle_of_a_job_is_waited_for_and_no_file_is_taken_for_gone",
            f"{_INBOXES}::test_an_inbox_that_is_away_opens_its_circuit_and_says_so",
        ),
    ),
    Row(
        33,
        "the store refuses a third of all calls",
        "a proxy that answers 503 and 429 with Retry-After",
        "the job ends, its account is exact",
        (
            "azure/test_storms.py::test_where_the_transport_gives_up_the_patience_goes_on_until_the_storm_is_over",
            "azure/test_whole_job.py::test_a_job_in_a_storm_goes_on_afterwards_and_its_account_is_exact",
        ),
    ),
    Row(
        34,
        "an expired SAS, a deleted source",
        "a SAS of yesterday; blobs deleted",
        "permanent, said without the SAS",
        ("azure/test_whole_job.py::test_an_expired_sas_is_refused_for_good_in_a_line_without_it",),
    ),
    Row(
        35,
        "a download that is cut, bytes that are not those of the checksum",
        "a proxy; a byte flipped",
        "it goes on, or the blob is said to have changed",
        (
            "azure/test_storms.py::test_a_download_that_was_cut_goes_on_with_the_same_blob_or_says_what_became_of_it",
            "integration/test_reconcile.py::test_a_cog_that_is_gone_changed_or_unknown_is_told",
        ),
    ),
    Row(
        36,
        "an upload that is cut between its blocks and their list",
        "killed at a block",
        "nothing is visible, it goes on with the rest",
        ("azure/test_large_blobs.py::test_an_upload_that_was_cut_goes_on_with_the_blocks_that_are_missing",),
    ),
    Row(
        37,
        "a source is written anew while it is read",
        "the blob replaced",
        "INPUT_CHANGED, or whole",
        (
            "azure/test_storms.py::test_a_blob_that_is_written_anew_while_it_is_read_is_either_whole_or_said_to_have_changed",
        ),
    ),
    Row(
        38,
        "broken and hostile files",
        "370 of them",
        "each has its code, the others are published",
        ("integration/test_messy_delivery.py", "raster/test_hostile.py"),
    ),
    Row(
        39,
        "the catalogue fails after COGs were made",
        "an item that pgstac refuses; a run ended",
        "nothing is visible without its item, and only registration is repeated",
        (
            f"{_PUBLICATION}::test_a_file_that_was_converted_not_published_and_then_taken_away_leaves_neither_cog_nor_table",
            "ledger/test_older_release.py::test_what_an_older_release_converted_is_published_without_being_converted_again",
        ),
    ),
    Row(
        40,
        "the n-th call of the store, or of the database, fails, for each n",
        "a call that counts",
        "the attempt goes on, or the next one does the rest",
        (
            "stages/test_nth_call.py::test_whichever_call_of_a_store_is_not_answered_the_job_is_done",
            "stages/test_nth_call.py::test_whichever_statement_ends_with_its_connection_the_job_is_done_by_this_attempt_or_the_next",
        ),
    ),
    Row(
        41,
        "clocks that differ",
        "the database's zone moved; leases by its clock alone",
        "leases are as in UTC",
        ("faults/test_time_zones.py::test_the_stack_comes_up_and_a_killed_worker_is_rescued_in_any_time_zone",),
    ),
    Row(
        42,
        "a token expires in mid-job",
        "tokens of seconds",
        "it is renewed, the job ends",
        ("azure/test_passwordless.py::test_a_stack_starts_and_a_job_ends_although_its_token_expires_in_its_midst",),
    ),
    Row(
        43,
        "small jobs beside large ones",
        "four large jobs at work",
        "the small one does not wait for them",
        ("integration/test_fair.py::test_a_small_job_is_done_while_two_of_four_large_ones_work_and_two_wait",),
    ),
    Row(
        44,
        "a job is cancelled in each of its stages",
        "cancel, terminate",
        "nothing more is published, the next submission goes on",
        (
            "faults/test_cancel_and_retry.py::test_a_cancelled_ingest_publishes_nothing_more_and_goes_on_where_it_was_when_it_is_submitted_again",
            "faults/test_terminate.py::test_terminate_while_the_job_is_being_closed_cancels_it_and_what_is_published_stays",
        ),
    ),
    Row(
        45,
        "a migration is killed, two migrate at once",
        "kill -9 in the middle of a file; two threads",
        "each file is applied whole, by one",
        (
            "intake/test_migration.py::test_a_migration_that_is_killed_half_way_leaves_nothing_and_of_two_at_once_each_file_is_applied_by_one",
        ),
    ),
    Row(
        46,
        "whoever receives logs does not",
        "",
        "work is not touched",
        why_not="Nothing is sent anywhere: logs are the output of processes and rows of the ledger.",
    ),
    Row(
        47,
        "several of these at once, by a seed",
        "two to five at a time for a minute; for ten minutes and 200 submissions with each of three seeds",
        "all of the above",
        (
            "faults/test_nemesis.py::test_after_a_minute_of_several_faults_at_once_every_submission_has_ended_and_all_agrees",
            "faults/test_nemesis.py::test_after_a_long_storm_every_submission_has_ended_and_all_agrees",
        ),
    ),
    Row(
        48,
        "a listing that does not show all",
        "a full disk, a limit, other parameters, an empty mount",
        "only what it proves gone is retired",
        (
            "faults/test_retire.py::test_files_beyond_a_limit_are_not_taken_for_gone",
            "faults/test_retire.py::test_a_store_without_room_is_disk_full_retires_nothing_and_leaves_no_thumbnail_behind",
            "storage/test_away.py::test_a_share_that_is_not_mounted_is_away_and_nothing_is_written_beneath_it",
        ),
    ),
    Row(
        49,
        "a run ends between an item and its row of the ledger",
        "a lock as barrier, then cancel or kill",
        "no item without its row",
        (
            f"{_PUBLICATION}::test_a_run_that_ends_between_item_load_and_ledger_commit_leaves_no_item_that_the_ledger_does_not_know",
        ),
    ),
    Row(
        50,
        "somebody deletes a run in Dagster",
        "in each state of its job",
        "the job's outcome stays, it can be submitted again",
        (
            "faults/test_deleted_run.py::test_a_job_whose_run_is_deleted_stays_completed_is_not_done_again_and_can_be_retried",
            "faults/test_deleted_run.py::test_a_run_that_is_deleted_while_it_works_is_completed_all_the_same_and_publishes_once",
        ),
    ),
    Row(
        51,
        "a database in another time zone",
        "alter database … set timezone",
        "kills and long queues end as in UTC",
        (
            "faults/test_time_zones.py::test_the_stack_comes_up_and_a_killed_worker_is_rescued_in_any_time_zone",
            "faults/test_time_zones.py::test_a_run_that_waits_in_the_queue_for_long_is_launched_once_in_any_time_zone",
        ),
    ),
    Row(
        52,
        "names of messages as long as stores allow",
        "the same long name twice",
        "each has a record, none stops another",
        (f"{_INBOXES}::test_two_messages_under_one_long_name_are_both_handled_and_a_third_after_them",),
    ),
    Row(
        53,
        "on_error=fail beside tables",
        "one bad file",
        "nothing is visible before the gate",
        (
            f"{_PUBLICATION}::test_one_bad_file_and_on_error_fail_publish_no_table_whatever_stage_meets_it",
            f"{_PUBLICATION}::test_a_table_that_exists_keeps_its_content_when_the_gate_refuses_what_would_replace_it",
        ),
    ),
    Row(
        54,
        "two sources of one path",
        "two containers, one collection",
        "each has its own file",
        (
            f"{_PUBLICATION}::test_the_same_path_and_bytes_in_two_containers_of_one_collection_are_two_cogs_and_retiring_one_leaves_the_other",
        ),
    ),
    Row(
        55,
        "requests of other sites",
        "Origin and Host of strangers",
        "refused",
        (
            "web/test_guard.py::test_a_page_of_another_origin_submits_nothing",
            "web/test_guard.py::test_a_host_that_is_not_ours_gets_nothing_and_is_not_reflected",
        ),
    ),
    Row(
        56,
        "connections without end",
        "220 of them",
        "probes answer",
        ("web/test_webserver.py::test_220_slow_bodies_and_idle_connections_do_not_stop_the_stacks_servers",),
    ),
    Row(
        57,
        "a reader that tries what it may not",
        "sockets, signals, forks, disk; a kernel without a wall",
        "refused, or said by doctor and not begun",
        (
            "sandbox/test_pool.py::test_a_child_reaches_no_unix_socket_and_makes_none",
            "sandbox/test_pool.py::test_a_child_signals_nobody",
            "k8s/test_image.py::test_where_a_container_may_not_use_landlock_no_file_is_opened_unless_that_is_allowed",
        ),
    ),
    Row(
        58,
        "a purge is killed in the middle, runs twice, or beside a job at work",
        "kill -9 while its transaction waits",
        "a run goes wholly or not, each once; what a job says stays",
        (
            "integration/test_purge.py::test_a_purge_that_is_killed_has_done_a_run_wholly_or_not_and_two_at_once_do_each_once",
            "integration/test_purge.py::test_a_job_at_work_is_not_touched_however_often_is_purged",
            "integration/test_purge.py::test_what_a_job_says_and_what_dagster_tells_of_its_assets_is_the_same_after_its_runs_are_purged",
        ),
    ),
    Row(
        59,
        "everything is lost while a job runs",
        "the home is deleted; a restoration is killed",
        "a backup brings all back, the job is completed, nothing disagrees",
        (
            "faults/test_backup.py::test_all_is_lost_while_a_job_runs_and_a_backup_brings_it_back_and_the_job_to_its_end",
            "backup/test_backup.py::test_nothing_is_deleted_while_a_backup_copies",
        ),
    ),
    Row(
        60,
        "the database is lost, and there is no backup",
        "its folder is deleted",
        "receipts bring catalogue, tables and accounts back",
        ("faults/test_backup.py::test_the_database_is_lost_and_there_is_no_backup_and_the_receipts_bring_it_back",),
    ),
)


def results(rows: tuple[Row, ...]) -> dict[str, str]:
    """Run the tests of rows; `file::test` -> passed, failed or skipped; a test with parameters fails with one of them."""
    wanted = sorted({test for row in rows for test in row.tests})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            # They take more than an hour, one after the other: several measure how soon something happens.
            "-v",
            *("-m", "", "-p", "geo_assets_tests.faults.outcomes"),
            *(f"{_TESTS}/{t}" for t in wanted),
        ]
        subprocess.run(command, env={**os.environ, "OUTCOMES": str(report)}, check=False)
        found: dict[str, str] = json.loads(report.read_text()) if report.exists() else {}
    return found


def main() -> None:
    """Print the rows, or run their tests and print what became of them; fails where a row does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--run", nargs="*", type=int, metavar="ROW", help="run the tests of these rows; of all without numbers"
    )
    asked = parser.parse_args()
    if asked.run is None:
        for row in ROWS:
            print(
                f"{row.number:2} {row.fault} | {row.injected or '-'} | {row.holds}"
                + (f" | not run: {row.why_not}" if row.why_not else "")
            )
        return
    chosen = tuple(row for row in ROWS if not asked.run or row.number in asked.run)
    found, bad = results(chosen), 0
    for row in chosen:
        told = {
            outcome
            for test in row.tests
            for name, outcome in found.items()
            if name == test or name.startswith(f"{test}::")
        }
        held = (
            f"not run: {row.why_not}"
            if row.why_not
            else "FAILED"
            if "failed" in told or not told
            else ", ".join(sorted(told))
        )
        bad += held == "FAILED"
        print(f"{row.number:2} {row.fault} | {row.injected or '-'} | {row.holds} | {held}")
    print(f"{sum(bool(row.tests) for row in chosen)} of {len(chosen)} rows run, {bad} failed")
    raise SystemExit(bad > 0)


if __name__ == "__main__":
    main()
