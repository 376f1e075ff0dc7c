"""The page of the catalogue, in a browser, on what a real job published."""

import hashlib
import json
import time
from datetime import datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import pytest
from rasterio.transform import from_origin

from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.serving.conftest import EVIL

pytestmark = pytest.mark.faults

DESKTOP, PHONE = (1280, 800), (360, 740)


@pytest.fixture
def page(browser, served):
    """Open a part of the page; afterwards it must have asked no other server, and nothing may have gone wrong in it."""
    browser.requests.clear()
    browser.errors.clear()
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(served["page"]))

    def show(address, size=DESKTOP, **wishes):
        browser.size(*size, **wishes)
        browser.goto(f"{served['page'].rstrip('/')}/{address}")
        browser.wait("document.querySelector('#panel h1')")
        return browser

    yield show
    elsewhere = [
        url for url in browser.requests if not url.startswith((f"{origin}/", f"blob:{origin}", "data:", "about:"))
    ]
    assert elsewhere == []
    assert browser.errors == []


def cards(browser, where="#results"):
    """The titles that are listed."""
    return browser.eval(f"[...document.querySelectorAll('{where} .card strong')].map(e => e.textContent)")


def item(served, title):
    """The address of the item of a file."""
    asked = {"collections": "delivery,delivery-vector,pacific", "limit": 100}  # other tests publish here too
    found = httpx.get(f"{served['stac']}/search", params=asked).json()["features"]
    named = next(f for f in found if f["properties"]["title"] == title)
    return f"#/items/{named['collection']}/{named['id']}"


def drawn(browser, source):
    """The outlines of a source of the map, each as (west, east) of its parts."""
    browser.until_idle()
    shapes = browser.eval(f"catalogueMap.getSource('{source}').getData().then(d => d.features.map(f => f.geometry))")
    return [
        sorted((min(x for x, _ in part[0]), max(x for x, _ in part[0])) for part in shape["coordinates"])
        for shape in shapes
        if shape["type"] == "MultiPolygon"
    ]


def test_collections_appear_with_their_titles_and_the_number_of_their_items(page):
    browser = page("")
    browser.wait("document.querySelectorAll('#panel .card').length >= 3")
    assert {"Survey", "Survey: tables", "default/pacific: rasters"} <= set(cards(browser, "#panel"))
    browser.wait_for_text("3 items", "a[href='#/?in=delivery']")
    browser.until_idle()
    browser.wait_for_text("items", "#map-note")


def test_a_text_finds_the_file_and_the_address_says_so(page):
    browser = page("")
    browser.wait("!!document.querySelector('#q')")
    browser.click("#q")
    browser.type("PHOTO_2024")
    browser.key("Enter", 13)
    browser.wait("location.hash.includes('q=PHOTO_2024')")
    browser.wait_for_text("1 item", "#results h2")
    assert cards(browser) == ["photo_20240131.tif"]


def test_a_box_that_is_drawn_on_the_map_finds_what_lies_in_it(page):
    browser = page("#/?map=6/36/-75")
    browser.until_idle()
    browser.wait("!!document.querySelector('.box button')")
    browser.eval("document.querySelector('.search details').open = true")
    browser.click(".box button")
    corners = browser.eval(
        "(() => { const r = catalogueMap.getCanvas().getBoundingClientRect();"
        " const at = (x, y) => { const p = catalogueMap.project([x, y]); return [r.x + p.x, r.y + p.y]; };"
        " return [at(-75.2, 36.3), at(-74.85, 35.9)]; })()"
    )
    browser.drag(*corners)
    box = browser.wait("new URLSearchParams(location.hash.split('?')[1]).get('bbox')")
    assert [float(x) for x in box.split(",")] == pytest.approx([-75.2, 35.9, -74.85, 36.3], abs=0.05)
    browser.wait_for_text("heights.tif", "#results")
    assert {"heights.tif", "parcels.gpkg"} <= set(cards(browser))
    assert "photo_20240131.tif" not in cards(browser)


def test_the_time_filters_and_going_back_shows_what_was_there(page):
    browser = page("#/?in=delivery&from=2024-01-01&to=2024-02-01")
    browser.wait_for_text("1 item", "#results h2")
    browser.click("#results .card")
    browser.wait_for_text("Lineage")
    browser.eval("history.back()")
    browser.wait_for_text("1 item", "#results h2")
    assert cards(browser) == ["photo_20240131.tif"]
    browser.goto(browser.eval("location.href").replace("2024-02-01", "2024-01-15"))
    browser.wait_for_text("Nothing was found", "#results")


def test_an_item_of_a_local_file_shows_the_hash_of_its_source(page, served, cli):
    browser = page(item(served, "heights.tif"))
    browser.wait_for_text("Lineage")
    source = cli.home / "containers" / "delivery" / "heights.tif"
    hashes = browser.eval("[...document.querySelectorAll('.hash code')].map(e => e.textContent)")
    assert hashes[-1] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert browser.eval("[...document.querySelectorAll('.lineage ~ .hash button')].length") == 1


def test_an_item_shows_its_bands_hash_lineage_and_picture_and_how_to_open_it(page, served):
    browser = page(item(served, "heights.tif"))
    browser.wait_for_text("Lineage")
    bands = browser.eval("[...document.querySelectorAll('#panel tbody tr td')].map(e => e.textContent)")
    assert bands[0].startswith("float32")
    assert bands[1] == "0 – 1,386"
    assert bands[2].startswith("693 ± ")
    hashes = browser.eval("[...document.querySelectorAll('.hash code')].map(e => e.textContent)")
    assert hashes
    assert all(len(text) == 64 for text in hashes)
    browser.wait("document.querySelector('img.thumbnail')?.naturalWidth > 0")
    programs = browser.eval("[...document.querySelectorAll('.program summary')].map(e => e.textContent)")
    assert {"QGIS", "OpenStreetMap editors", "XYZ and WMTS", "Python"} <= set(programs)
    texts = browser.eval("[...document.querySelectorAll('.program pre')].map(e => e.textContent)")
    assert any("{z}/{x}/{y}" in text for text in texts)


def test_a_raster_is_drawn_on_the_map(page, served):
    browser = page(item(served, "photo_20240131.tif"))
    browser.wait("!!globalThis.catalogueMap?.getLayer('raster-0')")
    browser.until_idle()
    browser.wait("performance.getEntriesByType('resource').some(e => e.name.includes('/tiles/WebMercatorQuad/'))")
    assert [url for url in browser.requests if "/tiles/WebMercatorQuad/" in url]


def click_north(browser):
    """Choose a parcel on the map."""
    browser.wait("!!globalThis.catalogueMap?.getLayer('table-fill')")
    browser.until_idle()
    x, y = browser.wait(
        "(() => { const r = catalogueMap.getCanvas().getBoundingClientRect();"
        " const p = catalogueMap.project([-74.5, 36.6]);"
        " return catalogueMap.queryRenderedFeatures(p, {layers: ['table-fill']}).length && [r.x + p.x, r.y + p.y]; })()"
    )
    browser.click_at(x, y)


def test_a_click_on_a_feature_shows_its_attributes_as_text(page):
    browser = page("#/tables/vector.delivery_parcels")
    click_north(browser)
    browser.wait_for_text("<b onclick=alert(1)>north</b>", "#feature")
    assert "12" in browser.eval("document.querySelector('#feature').innerText")
    assert browser.eval("document.querySelectorAll('#panel b').length") == 0


def test_a_whole_number_has_all_its_digits_in_a_row_and_in_the_feature_of_the_map(page):
    browser = page("#/tables/vector.delivery_parcels")
    browser.wait_for_text("9007199254740993", "tbody")
    browser.click("td button")
    browser.wait_for_text("9007199254740993", "#feature")
    browser = page("#/tables/vector.delivery_parcels")
    click_north(browser)
    browser.wait_for_text("9007199254740993", "#feature")


def test_a_row_of_a_table_is_chosen_by_the_keyboard(page):
    browser = page("#/tables/vector.delivery_parcels")
    browser.wait("!!document.querySelector('td button')")
    browser.eval("[...document.querySelectorAll('td button')].at(-1).focus()")
    browser.key("Enter", 13)
    browser.wait("document.querySelector('#feature dl')")
    browser.wait("document.querySelector('#live').textContent.startsWith('Feature')")


def test_a_job_shows_its_bad_file_the_reason_and_the_remedy(page, served):
    browser = page("#/jobs")
    browser.wait_for_text("delivery", "#panel")
    browser.click(f"a[href='#/jobs/{served['job']}']")
    browser.wait_for_text("1 bad file", "#panel")
    said = browser.eval("document.querySelector('.bad-files li').innerText")
    assert "broken.tif" in said
    assert "UNREADABLE" in said
    assert "What to do" in said
    figures = browser.eval("[...document.querySelectorAll('.figures li')].map(e => e.textContent)")
    assert figures[-1] == "1bad"
    browser.wait_for_text("heights.tif", "#panel")
    browser.eval("[...document.querySelectorAll('.paths a')].find(e => e.textContent === 'heights.tif').click()")
    browser.wait_for_text("heights.tif", "h1")


def test_a_job_that_failed_says_what_to_do(page, served, cli):
    asked = ("--param", "container=delivery", "--param", "prefix=nosuch/")
    failed = json.loads(cli.run("submit", "ingest_container", *asked, "--wait", "--json").stdout)
    assert failed["remedy"].endswith("--allow-empty")
    browser = page(f"#/jobs/{failed['job_id']}")
    browser.wait_for_text(f"What to do: {failed['remedy']}", ".note.bad")


def test_the_remarks_of_a_job_lead_to_the_files_that_they_are_about(page, served, cli, tmp_path):
    wide = {"type": "Polygon", "coordinates": [[[-170, 0], [170, 0], [170, 10], [-170, 10], [-170, 0]]]}
    (tmp_path / "wide.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": wide}))
    assert cli.run("upload", str(tmp_path), "default/remarked").returncode == 0
    job = cli.json("submit", "ingest_container", "--wait", "--param", "container=remarked")
    assert job["warnings"]["geometry"] == 1
    browser = page(f"#/jobs/{job['job_id']}")
    browser.wait_for_text("geometry: 1 file", "[aria-label=Progress]")
    summary = "[...document.querySelectorAll('summary')].find(e => e.textContent.startsWith('geometry'))"
    browser.eval(f"{summary}.click()")
    browser.wait_for_text("wide.geojson", "[aria-label=Progress] details[open]")
    browser.wait_for_text("1 geometry is wider than half the globe", "[aria-label=Progress] details[open]")
    browser.click("[aria-label=Progress] details[open] a")
    browser.wait_for_text("wide.geojson", "h1")


def test_a_job_names_the_one_that_has_taken_the_place_of_its_files(page, cli, tmp_path):
    write(tmp_path / "a.tif", np.ones((1, 30, 30), "uint8"), transform=from_origin(5e5, 4e6, 100, 100))
    assert cli.run("upload", str(tmp_path), "default/page-taken-over").returncode == 0
    asked = ("submit", "ingest_container", "--wait", "--param", "container=page-taken-over")
    first = cli.json(*asked)["job_id"]
    second = cli.json(*asked, "--param", "target_crs=EPSG:3857")["job_id"]
    browser = page(f"#/jobs/{first}")
    browser.wait_for_text(f"1 item now comes from job {second[:12]}", "[aria-label=Progress] .note")
    browser.wait_for_text(f"a.tif now from job {second[:12]}", "[aria-label=Files] .paths")
    browser.click("[aria-label=Progress] .note a")
    browser.wait("location.hash === " + json.dumps(f"#/jobs/{second}"))
    browser.wait_for_text(second, "[aria-label=Request]")
    browser.wait_for_text("Stages", "[aria-label=Progress]")
    assert not browser.eval("!!document.querySelector('[aria-label=Progress] .note')")


def test_a_collection_that_there_is_not_is_said_to_be_none(page, browser):
    page("#/?in=nope")
    browser.wait_for_text("That is not here", "#panel h1")
    assert browser.eval("document.title") == "That is not here – Catalogue"
    assert "Try a part of a file's name" not in browser.eval("document.querySelector('#panel').innerText")
    browser.errors.clear()  # that it is not there is noted


def test_a_time_in_the_address_that_is_none_bounds_nothing(page, browser):
    page("#/?from=garbage&to=2026-02-31")
    browser.wait("document.querySelector('#results .card')")
    assert not browser.eval("!!document.querySelector('#panel .note.bad')")


def test_a_collection_without_items_says_so(page, cli):
    assert cli.run("collection", "create", "nothing-yet", "--title", "Nothing yet").returncode == 0
    browser = page("#/?in=nothing-yet")
    browser.wait_for_text("No items yet", "#results h2")
    assert browser.eval("document.querySelector('h1').textContent") == "Nothing yet"
    browser.goto(browser.eval("location.href") + "&q=photo")
    browser.wait_for_text("Try a part of a file's name", "#results")


def test_an_item_leads_to_its_table_and_the_table_back_and_its_columns_are_in_their_own_order(page, served):
    browser = page(item(served, "parcels.gpkg"))
    browser.wait_for_text("Show its rows and its map", "#panel .card")
    browser.click("#panel .card")
    browser.wait_for_text("vector.delivery_parcels", "h1")
    columns = browser.eval("[...document.querySelectorAll('thead th')].map(e => e.textContent)")
    assert columns.index("name") < columns.index("area")
    assert browser.eval("document.querySelector('.crumbs').innerText").endswith("parcels.gpkg")
    browser.click(".crumbs a:last-child")
    browser.wait_for_text("parcels.gpkg", "h1")
    assert browser.eval("location.hash").startswith(item(served, "parcels.gpkg"))


def test_a_job_shows_which_files_its_newest_delivery_changed(page, served, cli, tmp_path):
    ramp = np.add.outer(np.arange(32), np.arange(32))[None].astype("uint16")
    for name in ("stays", "changes", "goes"):
        write(tmp_path / f"{name}.tif", ramp, transform=from_origin(5e5, 4e6, 100, 100))
    ingest = ("submit", "ingest_container", "--wait", "--param", "container=redelivery")
    assert cli.run("upload", str(tmp_path), "default/redelivery").returncode == 0
    cli.json(*ingest)
    container = cli.home / "containers" / "redelivery"
    (container / "goes.tif").unlink()
    for name, pixels in (("changes", ramp + 1), ("comes", ramp)):
        write(container / f"{name}.tif", pixels, transform=from_origin(5e5, 4e6, 100, 100))
    job = cli.json(*ingest, "--force")["job_id"]
    browser = page(f"#/jobs/{job}")
    browser.wait_for_text("Since the delivery before", "#panel")
    figures = browser.eval("[...document.querySelectorAll('.figures li')].map(e => e.textContent)")
    assert figures == ["1new", "1changed", "1gone", "1unchanged"]
    browser.eval("document.querySelectorAll('#panel details').forEach(e => e.open = true)")
    for name in ("comes.tif", "changes.tif", "goes.tif"):
        browser.wait_for_text(name, "[aria-label=Progress]")
    said = browser.eval("[...document.querySelectorAll('[aria-label=Progress] details')].map(e => e.innerText)")
    assert [("comes.tif" in text, "changes.tif" in text, "goes.tif" in text) for text in said] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    assert "its results were kept" in said[2]


def test_a_job_that_is_at_work_is_followed_to_its_end_without_a_reload(page, cli, tmp_path):
    (tmp_path / "a-broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    noise = np.random.default_rng(1).integers(0, 255, (1, 4000, 4000), "uint8")
    write(tmp_path / "slow.tif", noise, transform=from_origin(7e5, 5e6, 10, 10))
    assert cli.run("upload", str(tmp_path), "default/followed").returncode == 0
    job = cli.json("submit", "ingest_container", "--param", "container=followed")["job_id"]
    browser = page(f"#/jobs/{job}")
    badge = browser.wait("document.querySelector('.badge')?.innerText")
    assert badge.split()[-1].lower() in {"queued", "processing"}
    browser.eval("globalThis.neverReloaded = true")
    with connect(cli) as conn:
        bad = "select exists (select from geo.tasks where job_id = %s and status = 'quarantined')"
        while not conn.execute(bad, (job,)).fetchone()[0]:
            conn.rollback()
            time.sleep(0.02)
        conn.execute("lock table geo.tasks in share mode")  # it is read, and no other task ends meanwhile
        browser.wait_for_text("1 of 2", "[aria-label=Progress]")
        browser.wait_for_text("left (", ".pace")
        browser.wait_for_text("files a second", ".pace")
        assert browser.eval("document.querySelector('.pace time').dateTime").endswith("Z")
        browser.wait_for_text("1 bad file", "[aria-label='Bad files']")
        assert browser.eval("document.querySelector('[aria-label=Progress] .badge').innerText").endswith("rocessing")
        assert browser.eval("document.querySelector('progress').value / document.querySelector('progress').max") == 0.5
    said = browser.eval("document.querySelector('.bad-files li').innerText")
    assert "a-broken.tif" in said
    assert "What to do: " in said
    browser.wait_for_text("completed with errors", "[aria-label=Progress]", 90)
    browser.wait_for_text("2 of 2", "[aria-label=Progress]")
    assert "left" not in browser.eval("document.querySelector('.pace').innerText")
    browser.wait_for_text("slow.tif", "[aria-label=Files]")
    assert browser.eval("[...document.querySelectorAll('progress')].every(e => e.value === e.max)")
    browser.wait("document.querySelector('#live').textContent.toLowerCase().startsWith('completed with errors')")
    assert browser.eval("globalThis.neverReloaded") is True


@pytest.mark.parametrize(
    ("zone", "twice"),
    [
        ("America/St_Johns", ["2026-11-01 01:30:00 -02:30", "2026-11-01 01:30:00 -03:30"]),
        ("Asia/Kathmandu", ["2026-11-01 09:45:00 +05:45", "2026-11-01 10:45:00 +05:45"]),
        ("UTC", ["2026-11-01 04:00:00 UTC", "2026-11-01 05:00:00 UTC"]),
    ],
)
def test_times_are_shown_by_the_clock_of_the_browser_also_when_clocks_are_changed(page, browser, served, zone, twice):
    browser.send("Emulation.setTimezoneOverride", timezoneId=zone)
    page(f"#/jobs/{served['job']}")
    browser.wait("document.querySelector('#panel time')")
    clocks_change = "import('./js/format.js').then(m => ['04', '05'].map(h => m.moment(`2026-11-01T${h}:00:00Z`)))"
    assert browser.eval(clocks_change) == twice
    shown, written = browser.eval(
        "(e => [e.textContent, e.dateTime])(document.querySelector('[aria-label=Request] time'))"
    )
    assert written.endswith("Z")
    at = datetime.fromisoformat(written).astimezone(ZoneInfo(zone)).replace(microsecond=0)
    assert datetime.fromisoformat(shown.replace(" UTC", "+00:00").replace(" ", "T", 1).replace(" ", "")) == at
    browser.send("Emulation.setTimezoneOverride", timezoneId="")


def test_what_crosses_180_degrees_is_drawn_in_two_halves(page, served):
    browser = page("#/?in=pacific")
    (halves,) = drawn(browser, "extents")
    assert [round(x, 3) for part in halves for x in part][::3] == [-180, 180]
    assert len(halves) == 2
    browser.wait_for_text("1 item", "#results h2")
    (halves,) = drawn(browser, "footprints")
    assert (halves[0][0], halves[1][1]) == (-180, 180)
    box = "(() => { const b = catalogueMap.getBounds(); return [b.getWest(), b.getEast()]; })()"
    west, east = (x + 360 if browser.eval(box)[0] < 0 else x for x in browser.eval(box))
    assert west < halves[1][0] < 180 < halves[0][1] + 360 < east  # seen in one piece, not around the world
    assert east - west < 90
    browser.goto(f"{served['page'].rstrip('/')}/{item(served, 'lagoon.tif')}")
    browser.wait("!!globalThis.catalogueMap?.getLayer('raster-1')")  # the picture, too
    browser.until_idle()


def test_the_name_of_a_file_is_text(page, served):
    browser = page(item(served, EVIL))
    assert browser.eval("document.querySelector('h1').textContent") == EVIL
    page("#/?q=onerror")
    browser.wait_for_text("1 item", "#results h2")
    assert cards(browser) == [EVIL]
    assert browser.eval("document.querySelectorAll('img[onerror], img[src=x]').length") == 0


def test_an_address_that_is_no_page_is_no_link(page):
    browser = page("")
    made = browser.eval(
        "import('./js/dom.js').then(({h}) => ['javascript:alert(1)', 'data:text/html,x', 'postgresql://a/b', 'https://a.example/b']"
        ".map(href => h('a', {href}).getAttribute('href')))"
    )
    assert made == [None, None, None, "https://a.example/b"]


def test_the_keyboard_reaches_everything_that_can_be_clicked(page):
    browser = page("#/?in=delivery")
    browser.wait_for_text("3 items", "#results h2")
    browser.until_idle()
    clickable = browser.eval(
        "[...document.querySelectorAll('a[href], button, input, select, summary, canvas')]"
        ".filter(e => e.checkVisibility() && e.tabIndex >= 0).length"
    )
    reached = set()
    browser.eval("document.activeElement.blur()")
    for _ in range(clickable + 12):
        browser.key("Tab", 9)
        reached.add(
            browser.eval(
                "(() => { const e = document.activeElement; window.marks ??= new Map();"
                " if (!marks.has(e)) marks.set(e, marks.size); return marks.get(e); })()"
            )
        )
    assert len(reached) >= clickable
    unnamed = [
        node["role"]["value"]
        for node in browser.send("Accessibility.getFullAXTree")["nodes"]
        if node.get("role", {}).get("value") in {"button", "link", "textbox", "searchbox", "combobox", "checkbox"}
        and not node.get("name", {}).get("value")
    ]
    assert unnamed == []


def test_with_a_token_the_links_of_the_page_save_what_they_lead_to(page, served, cli):
    secret = cli.json("token", "create", "page-links", "--scope", "read")["token"]
    address = item(served, "heights.tif")
    browser = page(address)
    saved = (
        "(() => { globalThis.kept = []; const make = URL.createObjectURL;"
        " URL.createObjectURL = (blob) => { kept.push(blob.size); return make(blob); };"
        " HTMLAnchorElement.prototype.click = function () { kept.push(this.download); }; })()"
    )
    link = "[...document.querySelectorAll('.files a')].find(a => a.href.endsWith('.tif'))"
    try:
        browser.eval(f"sessionStorage.setItem('geo_assets.token', {json.dumps(secret)})")
        browser.goto(f"{served['page'].rstrip('/')}/{address}")
        browser.wait_for_text("Lineage")
        href = browser.wait(f"{link}?.href")
        browser.eval(saved)
        browser.eval(f"{link}.dispatchEvent(new MouseEvent('click', {{bubbles: true, cancelable: true}}))")
        browser.wait("kept.length >= 2")
        size, name = browser.eval("kept.slice(-2)")
        assert (size, name) == (int(httpx.head(href).headers["content-length"]), href.rpartition("/")[2])
        assert browser.eval("location.hash").startswith("#/items/")
        programs = browser.eval("[...document.querySelectorAll('.program pre')].map(e => e.textContent)")
        assert "export GDAL_HTTP_BEARER=TOKEN" in programs
        assert not any(secret in text for text in programs)
        cli.run("token", "revoke", "page-links")
        browser.eval(f"{link}.dispatchEvent(new MouseEvent('click', {{bubbles: true, cancelable: true}}))")
        browser.wait_for_text("the token is not valid", ".files")
    finally:
        cli.run("token", "revoke", "page-links")
        browser.eval("sessionStorage.removeItem('geo_assets.token')")
    browser.errors.clear()  # the refusal is noted there


@pytest.mark.parametrize("address", ["", "#/?q=photo", "#/jobs", "#/tables/vector.delivery_parcels", "item", "job"])
def test_on_a_phone_nothing_is_wider_than_the_screen(page, served, address):
    address = {"item": item(served, "heights.tif"), "job": f"#/jobs/{served['job']}"}.get(address, address)
    browser = page(address, PHONE)
    browser.wait("!document.body.innerText.includes('Looking …')")
    browser.eval("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.eval("document.documentElement.scrollWidth") <= PHONE[0]
    assert (
        browser.eval(
            "Math.max(...[...document.querySelectorAll('#panel > *')].map(e => e.getBoundingClientRect().right))"
        )
        <= PHONE[0]
    )


#: Relative luminance and contrast, as WCAG 2 defines them.
CONTRAST = """(() => {
  const rgb = (text) => { const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (text) => { const [r, g, b] = rgb(text).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const of = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name);
  const ratio = (a, b) => { const [x, y] = [light(of(a)), light(of(b))].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  return PAIRS.map(([a, b]) => [a, b, ratio(a, b)]);
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(page, dark):
    browser = page("", dark=dark)
    texts = ["ink", "soft", "accent", "good", "warn", "bad"]
    pairs = [(text, ground) for text in texts for ground in ("paper", "ground")]
    pairs += [
        ("accent-ink", "accent"),
        ("ink", "warn-ground"),
        ("soft", "warn-ground"),
        ("ink", "bad-ground"),
        ("ink", "hover"),
        ("soft", "hover"),
    ]
    found = browser.eval(CONTRAST.replace("PAIRS", json.dumps(pairs)))
    assert [(a, b, round(ratio, 2)) for a, b, ratio in found if ratio < 4.5] == []


def test_without_webgl_everything_but_the_map_is_there(page, browser):
    script = browser.send(
        "Page.addScriptToEvaluateOnNewDocument",
        source="HTMLCanvasElement.prototype.getContext = function () { return null; };",
    )["identifier"]
    try:
        page("#/?in=delivery")
        browser.wait_for_text("3 items", "#results h2")
        browser.wait("document.body.classList.contains('no-map')")
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    browser.errors.clear()  # MapLibre says why it did not start


def test_the_first_paint_comes_soon(page):
    browser = page("")
    browser.wait_for_text("Survey", "#panel")
    painted = browser.wait("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    assert painted < 1500
