"""The chunks of a large run are all in the queue at once: those of a small one are taken before them."""

import pytest
from celery import Celery
from pydantic import SecretStr

from geo_assets.defs.celery_app import CONFIG
from geo_assets.settings import Settings
from geo_assets.submissions.size import size_tags

pytestmark = pytest.mark.celery

TAG = "dagster-celery/run_priority"


@pytest.mark.parametrize("usual", [0, 5], ids=["whole runs", "steps"])
def test_of_redis_what_belongs_to_a_small_run_is_taken_first(redis, usual):
    settings = Settings(executor="celery", celery_broker=SecretStr(redis.url))
    app = Celery(broker=redis.url, config_source=CONFIG)
    for size in ("large", "large", "small"):
        priority = usual + int(size_tags(settings, large=size == "large")[TAG])  # as Dagster's executor adds them up
        app.send_task(size, priority=priority, queue="dagster")
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("dagster", no_ack=True)
        taken = [queue.get(timeout=5).headers["task"] for _ in range(3)]
    assert taken == ["small", "large", "large"]


def test_of_rabbitmq_larger_numbers_are_taken_first_and_none_is_beyond_its_ten():
    settings = Settings(executor="celery", celery_broker=SecretStr("amqp://user:parole@broker//"))
    small, large = (int(size_tags(settings, large=large)[TAG]) for large in (False, True))
    assert 10 > 5 + small > 5 + large >= large >= 0


def test_without_celery_no_run_has_a_tag_of_it():
    assert list(size_tags(Settings(), large=True)) == ["geo_assets/size"]
