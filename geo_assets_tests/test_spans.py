"""Spans go to a collector that the settings name, as one trace across threads and processes; else nothing is sent."""

import socket
import subprocess
import sys
import threading

import pytest

from geo_assets import extras, spans
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets_tests.otlp import PARENT, Collector, attribute

TRACE = PARENT.split("-")[1]

_LOADED = """
import sys
from geo_assets.settings import load_settings
from geo_assets import spans
import geo_assets.definitions, geo_assets.api.app, geo_assets.stages.cogs
spans.configure(load_settings())
with spans.span_of_process("run"), spans.span("file", parent="p") as traceparent:
    assert traceparent == "p"
spans.flush()
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""

needs_otel = pytest.mark.skipif(not extras._is_here("opentelemetry.exporter.otlp.proto.http"), reason="extra otel")


def test_by_default_nothing_is_traced_and_no_package_of_the_extra_is_imported(tmp_path):
    environment = {"GEO_ASSETS_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch):
    monkeypatch.setitem(extras._MODULES, "otel", "no_such_package.at_all")
    with pytest.raises(GeoAssetsError) as refused:
        extras.insist_on_extras(Settings(otlp_endpoint="http://127.0.0.1:4318"))
    assert refused.value.code == "EXTRA_NOT_INSTALLED"
    assert "[otel]" in refused.value.remedy


@pytest.fixture
def collector():
    with Collector() as collector:
        spans.configure(Settings(otlp_endpoint=collector.url))
        yield collector
        spans._Tracing.provider.shutdown()
        spans._Tracing.provider = spans._Tracing.tracer = None


@needs_otel
def test_a_trace_goes_on_in_the_threads_of_a_run_and_in_the_calls_of_each(collector):
    def work(name):
        with spans.span("file", task_key=name), spans.span("child", function="convert"):
            pass

    with spans.span("submission", parent=PARENT) as of_submission:
        pass
    with spans.span_of_process("run", parent=of_submission, run_id="r"):
        threads = [threading.Thread(target=work, args=(f"{n}.tif",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = {s.span_id: s for s in collector.trace(TRACE, "submission", "run", "file", "child")}
    assert sorted(s.name for s in found.values()) == ["child"] * 3 + ["file"] * 3 + ["run", "submission"]
    named = {s.name: s for s in found.values()}
    assert named["submission"].parent_span_id.hex() == PARENT.split("-")[2]
    assert found[named["run"].parent_span_id].name == "submission"
    for span in found.values():
        if span.name == "file":
            assert found[span.parent_span_id].name == "run"
        if span.name == "child":
            assert found[span.parent_span_id].name == "file"
    assert {attribute(s, "task_key") for s in found.values() if s.name == "file"} == {f"{n}.tif" for n in range(3)}


@needs_otel
def test_what_fails_is_an_error_with_its_code_and_without_secrets(collector):
    with pytest.raises(GeoAssetsError), spans.span("file", parent=PARENT, task_key="a?sig=hush"):
        raise GeoAssetsError("UNREADABLE", "https://a/b?sv=1&sig=hush is cut off")
    spans.flush()
    (span,) = collector.trace(TRACE, "file")
    assert span.status.message.startswith("UNREADABLE: ")
    assert "hush" not in str(span)


@needs_otel
def test_a_sender_that_does_not_sample_is_not_traced(collector):
    with spans.span("submission", parent=f"{PARENT[:-2]}00") as traceparent:
        pass
    spans.flush()
    assert traceparent.endswith("-00")
    assert collector.spans == []


@needs_otel
def test_a_collector_that_is_away_fails_nothing_and_holds_up_the_end_for_seconds():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code = f"""
from geo_assets import spans
from geo_assets.settings import Settings
spans.configure(Settings(otlp_endpoint="http://127.0.0.1:{taken.getsockname()[1]}"))
with spans.span_of_process("run"):
    print("done")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=40)
    assert done.stdout == "done\n"
