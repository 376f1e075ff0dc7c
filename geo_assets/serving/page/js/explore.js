/**
 * The first page: collections, the form of the search, and what it found, as a list and on the map.
 * Here: form and lists. Not here: asking the server (`search.js`), items (`item.js`).
 */

import { API, collectionPath, json, STAC, tilePaths } from "./api.js";
import { go, link } from "./address.js";
import { fill, h, isAddress, say } from "./dom.js";
import { fileLink } from "./files.js";
import { captured, count, counted, place, span, words } from "./format.js";
import { flat, parseBox } from "./geometry.js";
import { thumbnail } from "./item.js";
import { parameters, renderOf } from "./pictures.js";
import { filters, MOST, search } from "./search.js";

/** Cards that are added at once to the list. */
const CARDS = 50;

/** What was found last, so that going back shows it at once: {key, items, complete, at}. */
let last = null;

/** Milliseconds for which that is good enough. */
const FRESH = 60_000;

let collections = null;

export async function showExplore(panel, { query, signal, map, view, later }) {
  document.title = "Catalogue";
  const wanted = filters(query);
  const results = h("section", { id: "results", "aria-label": "Results" }, h("p", { class: "quiet" }, "Looking …"));
  collections = (await json(`${STAC}/collections?limit=1000`, { signal })).collections;
  const named = wanted.in?.split(",").map((id) => collections.find((collection) => collection.id === id) ?? id);
  // one that is not among them does not exist, which the server says, or is beyond those that it lists
  const known = (found) => (found.id ? found : json(collectionPath(found), { signal }));
  const chosen = named && (await Promise.all(named.map(known)));
  const home = Object.keys(wanted).length === 0;
  const heading = chosen?.length === 1 ? (chosen[0].title ?? chosen[0].id) : home ? "Catalogue" : "Search";
  fill(
    panel,
    h("h1", { class: home && "unseen" }, heading),
    chosen && chosen.map((collection) => aboutCollection(collection, map)),
    form(wanted, map),
    home && collectionsPart(),
    results,
  );
  results.hidden = home;
  map.showBox(parseBox(wanted.bbox));
  const boxes = (chosen ?? collections).map(boxOfCollection).filter(Boolean);
  map.showExtents(chosen ? boxes : []);
  if (!view) map.fit(parseBox(wanted.bbox) ? [parseBox(wanted.bbox)] : boxes, { animate: !home, most: 12 });
  later(find(wanted, { results, home, signal, map }));
}

/** Whole world or null: of a collection without items. */
function boxOfCollection(collection) {
  const box = flat(collection.extent?.spatial?.bbox?.[0]);
  return box && !(box[0] <= -180 && box[2] >= 180 && box[1] <= -90 && box[3] >= 90) ? box : null;
}

async function find(wanted, { results, home, signal, map }) {
  const key = JSON.stringify(wanted);
  if (last?.key === key && last.complete && Date.now() - last.at < FRESH) {
    map.showItems(last.items);
    note(last.items.length, true);
    if (!home) listResults(results, last, wanted);
    return;
  }
  let drawn = 0;
  for await (const { items, complete } of search(wanted, signal)) {
    last = { key, items, complete, at: Date.now() };
    const enough = items.length >= MOST;
    if (complete || enough || items.length >= drawn * 2) {
      drawn = items.length; // each time twice as many: what is drawn is twice the work at most
      map.showItems(items);
    }
    if (!home && (items.length <= 1100 || complete || enough)) listResults(results, last, wanted);
    note(items.length, complete || enough, !complete);
  }
  if (!home) say(last.items.length ? `${counted(last.items.length, "item")} found` : nothing(wanted).said);
  last.complete = true;
}

/** What the map shows, over the map. */
function note(number, done, more = false) {
  const element = document.getElementById("map-note");
  element.hidden = !number;
  element.textContent = done
    ? `${counted(number, "item")}${more ? " – the first of more: narrow the search" : ""}`
    : `${counted(number, "item")} …`;
}

function form(wanted, map) {
  const text = h("input", {
    type: "search",
    id: "q",
    value: wanted.q ?? "",
    placeholder: "Names of files, ids",
    autocomplete: "off",
    maxlength: 200,
  });
  const choice = h(
    "select",
    { id: "in" },
    h("option", { value: "" }, "All collections"),
    collections.map(({ id, title }) => h("option", { value: id }, title ?? id)),
  );
  choice.value = wanted.in ?? "";
  const from = h("input", { type: "date", id: "from", value: wanted.from ?? "" });
  const to = h("input", { type: "date", id: "to", value: wanted.to ?? "" });
  const box = boxField(wanted, map, () => submit());
  const submit = () =>
    go([], { q: text.value.trim(), in: choice.value, from: from.value, to: to.value, bbox: box.value() });
  choice.addEventListener("change", submit);
  const more = wanted.from || wanted.to || wanted.bbox || wanted.at;
  const element = h(
    "form",
    { role: "search", class: "search", "aria-label": "Search the catalogue" },
    h(
      "div",
      { class: "search-line" },
      h("label", { class: "unseen", for: "q" }, "Text"),
      text,
      h("button", { type: "submit", class: "primary" }, "Search"),
    ),
    h("label", { class: "unseen", for: "in" }, "Collection"),
    choice,
    h(
      "details",
      { open: Boolean(more) },
      h("summary", {}, "Time and place"),
      h("div", { class: "pair" }, h("label", { for: "from" }, "From", from), h("label", { for: "to" }, "To", to)),
      box.element,
    ),
    wanted.at && h("p", { class: "chip" }, `At ${place(...wanted.at.split(",").map(Number), 3)}`),
    Object.keys(wanted).length > 0 && h("p", { class: "clear" }, h("a", { href: link([]) }, "Clear the search")),
  );
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  return element;
}

/** A box: drawn, taken from the map, or typed. */
function boxField(wanted, map, submit) {
  const given = parseBox(wanted.bbox);
  const sides = ["West", "South", "East", "North"].map((name, index) =>
    h("input", {
      type: "number",
      step: "any",
      min: index % 2 ? -90 : -180,
      max: index % 2 ? 90 : 180,
      "aria-label": `${name}, degrees`,
      placeholder: name,
      value: given ? given[index] : "",
    }),
  );
  const set = (box) => {
    sides.forEach((side, index) => (side.value = box ? Number(box[index].toFixed(4)) : ""));
    submit();
  };
  const drawing = h("button", { type: "button", onclick: draw }, "Draw on the map");
  function takeView() {
    const seen = map.bounds();
    if (seen) set(seen);
  }
  async function draw() {
    drawing.textContent = "Drag a box, or press Escape";
    say("Drag a box on the map, or press Escape");
    document.getElementById("map-area").scrollIntoView({ block: "nearest" });
    const box = await map.drawBox();
    drawing.textContent = "Draw on the map";
    if (box) set(box);
    else map.showBox(given);
  }
  const value = () => {
    const text = sides.every((side) => side.value !== "") ? sides.map((side) => side.value).join(",") : "";
    return parseBox(text) ? text : "";
  };
  const element = h(
    "fieldset",
    { class: "box" },
    h("legend", {}, "Box"),
    h(
      "div",
      { class: "buttons" },
      drawing,
      h("button", { type: "button", onclick: takeView }, "Use what is in view"),
      given && h("button", { type: "button", onclick: () => set(null) }, "Remove"),
    ),
    h("div", { class: "sides" }, sides),
  );
  return { element, value };
}

function collectionsPart() {
  if (!collections.length) {
    return h(
      "div",
      { class: "note" },
      h("h2", {}, "The catalogue is empty"),
      h("p", {}, "Upload a folder and submit it; what comes of it appears here:"),
      h(
        "pre",
        { tabindex: "0" },
        "geo-assets upload path/to/files default/landing\ngeo-assets submit ingest_container --param container=landing --wait",
      ),
    );
  }
  const counts = new Map(collections.map(({ id }) => [id, h("span", {})]));
  json(`${API}/stac/collections`).then(
    ({ items }) =>
      counts.forEach((element, id) => (element.textContent = id in items ? counted(items[id], "item") : "")),
    () => {}, // the number is an extra
  );
  return [
    h("h2", {}, "Collections"),
    h(
      "ul",
      { class: "cards" },
      collections.map((collection) =>
        h(
          "li",
          {},
          h(
            "a",
            { class: "card", href: link([], { in: collection.id }) },
            h("strong", {}, collection.title ?? collection.id),
            collection.description && h("span", { class: "clamp" }, collection.description),
            h(
              "span",
              { class: "quiet meta" },
              counts.get(collection.id),
              h("span", {}, span(collection.extent?.temporal?.interval?.[0])),
            ),
          ),
        ),
      ),
    ),
  ];
}

/** What a collection says of itself, and its mosaic. */
function aboutCollection(collection, map) {
  const render = renderOf(collection);
  const box = boxOfCollection(collection);
  const mosaic = h("input", { type: "checkbox" });
  mosaic.addEventListener("change", () => {
    const key = render.assets[0];
    const asked = parameters(key, { bands: [] }, collection);
    map.showRaster(mosaic.checked ? tilePaths(collection.id, null, asked).tiles : null, box, 1);
  });
  const said = [
    span(collection.extent?.temporal?.interval?.[0]),
    collection.license && collection.license !== "other" && `License ${collection.license}`,
    collection.providers?.length && collection.providers.map((provider) => provider.name).join(", "),
  ].filter(Boolean);
  return h(
    "div",
    { class: "about" },
    collection.description && h("p", {}, collection.description),
    h("p", { class: "quiet" }, said.join(" · ")),
    collection.keywords?.length > 0 &&
      h(
        "p",
        {},
        collection.keywords.map((word) => h("span", { class: "chip" }, word)),
      ),
    h(
      "p",
      { class: "quiet links" },
      fileLink(`${STAC}/collections/${encodeURIComponent(collection.id)}`, "JSON"),
      Object.entries(collection.assets ?? {})
        .filter(([, asset]) => isAddress(asset.href))
        .map(([key, asset]) => fileLink(asset.href, asset.title ?? words(key))),
    ),
    render?.assets?.length && box && h("label", { class: "check" }, mosaic, " Show its rasters on the map"),
  );
}

function listResults(results, { items, complete }, wanted) {
  const known = new Map(collections.map(({ id, title }) => [id, title ?? id]));
  const list = h("ul", { class: "cards" });
  const more = h("button", { type: "button" }, "Show more");
  let shown = 0;
  const add = () => {
    const first = shown;
    list.append(...items.slice(shown, shown + CARDS).map((item) => card(item, known)));
    shown = Math.min(items.length, shown + CARDS);
    more.hidden = shown >= items.length;
    more.textContent = `Show more (${count(items.length - shown)} left)`;
    if (first) list.children[first].querySelector("a").focus();
  };
  add();
  more.addEventListener("click", add);
  const { said, hint } = items.length
    ? { said: `${counted(items.length, "item")}${complete ? "" : " so far"}` }
    : nothing(wanted);
  fill(results, h("h2", {}, said), hint && h("p", { class: "quiet" }, hint), list, more);
  results.hidden = false;
}

/** What is said where nothing was found, and what to try. */
function nothing({ q, in: of, from, to, bbox, at }) {
  const hints = [
    (bbox || from || to) && "Try a larger box or a longer time.",
    q && "Try a part of a file's name.",
    at && "Nothing lies there.",
  ];
  return of && !hints.some(Boolean)
    ? { said: "No items yet", hint: "What is submitted to this collection appears here." }
    : { said: "Nothing was found", hint: hints.find(Boolean) };
}

function card(item, known) {
  const title = item.properties.title ?? item.id;
  const place = h("span", { class: "picture" });
  const element = h(
    "li",
    {},
    h(
      "a",
      { class: "card result", href: link(["items", item.collection, item.id]) },
      place,
      h(
        "span",
        { class: "words" },
        h("strong", {}, title),
        h(
          "span",
          { class: "quiet meta" },
          h("span", {}, known.get(item.collection) ?? item.collection),
          h("span", {}, captured(item.properties)),
        ),
      ),
    ),
  );
  seen(element, () => {
    const image = thumbnail(
      {
        ...item,
        assets: item.assets?.thumbnail ? { thumbnail: { ...item.assets.thumbnail, roles: ["thumbnail"] } } : {},
      },
      null,
    );
    if (image) {
      image.alt = ""; // the title is beside it
      place.append(image);
    }
  });
  const mark = () => document.dispatchEvent(new CustomEvent("mark", { detail: item.geometry }));
  element.addEventListener("mouseenter", mark);
  element.addEventListener("focusin", mark);
  element.addEventListener("mouseleave", () => document.dispatchEvent(new CustomEvent("mark", { detail: null })));
  return element;
}

const watchers = new WeakMap();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      watchers.get(target)();
    }
  },
  { rootMargin: "200px" },
);

/** Call once when the element comes into view: a picture that nobody scrolls to is not fetched. */
function seen(element, call) {
  watchers.set(element, call);
  watcher.observe(element);
}
