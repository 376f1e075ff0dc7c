"""While Dagster's own storage is away or has no room, what a step does is not lost, and the job has not failed."""

from contextlib import nullcontext
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from geo_assets.defs import claim as claims
from geo_assets.defs.metadata import log_line, step_logger
from geo_assets.defs.resources import plain_failures

FULL = OperationalError("insert", {}, Exception("could not extend file: No space left on device"))


class NoRoomForLines(InMemoryEventLogStorage):
    """Stores what happens to a run, but neither a line of a log nor that it could not be stored."""

    def store_event(self, event):
        if not event.dagster_event or "Exception while writing" in (event.dagster_event.message or ""):
            raise FULL
        super().store_event(event)


@pytest.fixture
def crowded(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance._event_storage = NoRoomForLines()
        instance._event_storage.register_instance(instance)
        yield instance


def test_a_line_that_the_log_of_a_run_has_no_room_for_costs_no_file_and_is_in_the_log_of_the_process(
    crowded, tmp_path, caplog
):
    done = []

    @dg.op
    def convert(context) -> None:
        log = step_logger(context, SimpleNamespace(settings=SimpleNamespace(home=tmp_path)))
        for file in ("a.tif", "b.tif"):
            log(f"{file}: done")
            done.append(file)

    @dg.job
    def a_job() -> None:
        convert()

    caplog.set_level("INFO", logger="geo_assets")
    assert a_job.execute_in_process(instance=crowded).success
    assert done == ["a.tif", "b.tif"]
    assert [r.getMessage() for r in caplog.records if r.name == "geo_assets.defs.metadata"] == [
        "a.tif: done",
        "b.tif: done",
    ]


@pytest.mark.parametrize("error", [ValueError("no number"), OperationalError("insert", {}, Exception("gone"))])
def test_a_line_hides_neither_a_fault_of_ours_nor_an_interrupt(error):
    error.__context__ = KeyboardInterrupt()  # a connection that was interrupted may fail while it is closed

    def interrupted(*_):
        raise error

    with pytest.raises(type(error)):
        log_line(SimpleNamespace(log=SimpleNamespace(log=interrupted)), "a.tif: done")


class Stages:
    """Notes what a job is given up for."""

    def __init__(self):
        self.run_id, self.stopped, self.given_up = "run", False, []
        self.give_up = self.given_up.append
        self.signs_of_life = nullcontext

    def get(self):
        return self


@pytest.mark.parametrize(
    "fault",
    [
        FULL,
        InterfaceError("select", {}, Exception("connection already closed")),
        NoConnection("QueuePool limit of size 1 overflow 0 reached"),
        DagsterPostgresException("too many retries for DB connection"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_step_is_tried_again_when_dagsters_storage_fails_under_it(fault):
    stages = Stages()
    with pytest.raises(dg.RetryRequested), plain_failures(stages):
        raise fault
    assert stages.given_up == []


def test_a_run_whose_tags_cannot_be_stored_claims_its_job_once_more(monkeypatch):
    def full(*_):
        raise FULL

    stages, claimed = Stages(), []
    job = SimpleNamespace(job_id="0" * 64, correlation_id="c", submitted_by="s", parameters=None)
    monkeypatch.setattr(claims, "claim_job", lambda *_, **__: claimed.append(1) or job)
    monkeypatch.setattr(claims, "process_is_about", lambda **_: None)
    run = SimpleNamespace(tags={}, parent_run_id=None)
    context = SimpleNamespace(partition_key="p", run_id="run", run=run, instance=SimpleNamespace(add_run_tags=full))
    with pytest.raises(dg.RetryRequested):
        claims.claim(context, stages, "hello_world")
    assert (claimed, stages.given_up) == ([1], [])
