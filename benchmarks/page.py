"""The page of the catalogue with 20,000 items, in Chromium without a window: `make bench-page`.

Here: when the page is painted first, when everything is drawn, and whether the map can be moved meanwhile and then. Not
here: what the page should do (`geo_assets_tests/serving/`).

WebGL is drawn by the processor, which shares two cores with the server: with a graphics card a picture costs less. The
items are made up, and are taken out again.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import machine
from benchmarks.pages import publish
from geo_assets.settings import Settings, load_settings
from geo_assets.stac.collection import Described
from geo_assets.stac.pgstac import create_collection, load_items, refresh_collection
from geo_assets_tests.serving.browser import Browser, find_chromium

COLLECTION = "bench-page"
BATCH = 1000

#: Notes how long each picture took while the map is moved, and the longest time for which nothing else could happen.
PAN = """new Promise((resolve) => {
  const frames = [], tasks = [];
  new PerformanceObserver((list) => list.getEntries().forEach((e) => tasks.push(e.duration))).observe({entryTypes: ['longtask']});
  let last = performance.now(), left = 90;
  const step = (now) => {
    frames.push(now - last); last = now;
    catalogueMap.panBy([left % 60 < 30 ? 12 : -12, left % 40 < 20 ? 5 : -5], {animate: false});
    if (--left) requestAnimationFrame(step); else setTimeout(() => resolve({frames: frames.slice(2), longest: Math.max(0, ...tasks)}), 100);
  };
  requestAnimationFrame(step);
})"""


def item(number: int, chance: random.Random) -> dict[str, Any]:
    """A scan somewhere on one of six continents, of a size between 1 and 100 km."""
    x0, y0 = chance.choice([(10, 50), (-90, 38), (100, 25), (140, -28), (-60, -15), (20, 5)])
    x, y, size = chance.gauss(x0, 9), chance.gauss(y0, 6), chance.choice([0.01, 0.05, 0.3, 1.0])
    when = f"2024-{1 + number % 12:02}-{1 + number % 28:02}T00:00:00Z"
    ring = [[x, y], [x + size, y], [x + size, y + size * 0.9], [x + size / 2, y + size], [x, y + size], [x, y]]
    href = f"https://example.org/{number}"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": f"scan-{number:05}",
        "collection": COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [[[round(a, 7), round(b, 7)] for a, b in ring]]},
        "bbox": [x, y, x + size, y + size],
        "properties": {"datetime": when, "title": f"delivery_{number % 7}/scan_{number:05}.tif", "gsd": 0.5},
        "links": [],
        "assets": {
            "data": {"href": f"{href}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]},
            "thumbnail": {"href": f"{href}.png", "type": "image/png", "roles": ["thumbnail"]},
        },
    }


def fill(settings: Settings, count: int) -> None:
    """Register the items."""
    create_collection(settings, COLLECTION, Described(title="Many scans"))
    chance = random.Random(1)
    items = [item(number, chance) for number in range(count)]
    for start in range(0, count, BATCH):
        part = items[start : start + BATCH]
        load_items(settings, COLLECTION, part, guard=lambda _: None, record=lambda _: None)
    refresh_collection(settings, COLLECTION)


def first_paint(browser: Browser, page: str) -> float:
    """Milliseconds until something is to be read, with an empty cache."""
    browser.send("Network.clearBrowserCache")
    browser.goto(page)
    browser.wait_for_text("Many scans", "#panel")
    return float(browser.wait("performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))


def measured(page: str, count: int) -> dict[str, Any]:
    """All figures."""
    program = find_chromium()
    if program is None:
        raise SystemExit("there is no Chromium here")
    browser = Browser(program)
    try:
        browser.size(1280, 800)
        paints = [first_paint(browser, page) for _ in range(3)]
        browser.send("Network.clearBrowserCache")
        browser.goto(f"{page}#/?in={COLLECTION}&map=3/45/10")
        browser.wait("globalThis.catalogueMap?.loaded()", 60)
        start = time.perf_counter()
        while_loading = browser.eval(PAN)
        browser.wait(f"document.querySelector('#map-note').textContent === '{count:,} items'", 120)
        browser.until_idle(120)
        drawn = time.perf_counter() - start
        views = {name: _at(browser, zoom) for name, zoom in (("the world", 1.5), ("a continent", 4), ("a country", 7))}
        transferred = browser.eval(
            "performance.getEntriesByType('resource').filter(e => e.name.includes('/stac/search'))"
            ".reduce((sum, e) => sum + e.transferSize, 0)"
        )
        heap = browser.eval("performance.memory.usedJSHeapSize")
        return {
            "paint": statistics.median(paints),
            "drawn": drawn,
            "pans": {"the world, while items arrive": while_loading, **views},
            "transferred": transferred / 1e6,
            "heap": heap / 1e6,
        }
    finally:
        browser.close()


def _at(browser: Browser, zoom: float) -> dict[str, Any]:
    browser.eval(f"void catalogueMap.jumpTo({{zoom: {zoom}, center: [10, 50]}})")
    browser.until_idle(120)
    found: dict[str, Any] = browser.eval(PAN)
    return found


def main() -> None:
    """Run against a stack that is up, with its server, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/page.md"))
    options = parser.parse_args()
    before, settings = machine(), load_settings()
    fill(settings, options.count)
    try:
        found = measured(settings.served["page"], options.count)
    finally:
        remove(settings)
    rows = "\n".join(
        f"| {name} | {statistics.median(pan['frames']):.0f} | {statistics.quantiles(pan['frames'], n=20)[-1]:.0f} |"
        f" {pan['longest']:.0f} |"
        for name, pan in found["pans"].items()
    )
    report = f"""# The page with {options.count:,} items

`make bench-page` wrote this. {before}. Chromium without a window; WebGL is drawn by the processor, which the server shares.

| | |
|---|---|
| first contentful paint, cache empty, median of 3 | {found["paint"] / 1000:.2f} s |
| all items fetched and drawn, from when the map was there | {found["drawn"]:.1f} s |
| sent for it | {found["transferred"]:.1f} MB |
| memory of the page's objects then | {found["heap"]:.0f} MB |

The map is moved by 13 pixels a picture. Milliseconds:

| view | median between two pictures | 95 % | longest task |
|---|---|---|---|
{rows}
"""
    publish(options.out, report)
    print(report)
    print(json.dumps({name: pan["longest"] for name, pan in found["pans"].items()}))


def remove(settings: Settings) -> None:
    """Take the items out again."""
    from geo_assets.stages.unpublish import remove_collection

    remove_collection(settings, COLLECTION, cascade=True, by="bench-page")


if __name__ == "__main__":
    main()
