/**
 * The page: what the address names is shown.
 * Here: routes, the map's start, faults, the token. Not here: the pages themselves.
 */

import { go, noteView, read, view } from "./address.js";
import { keepToken, token } from "./api.js";
import { fill, h, say } from "./dom.js";
import { showExplore } from "./explore.js";
import { showItem } from "./item.js";
import { showJob, showJobs } from "./jobs.js";
import { showTable } from "./tables.js";

const panel = document.getElementById("panel");
const skip = document.getElementById("skip");

/** First part of the address (and how many there are) -> page. */
function pageOf(parts) {
  if (!parts.length) return showExplore;
  if (parts[0] === "items" && parts.length === 3) return showItem;
  if (parts[0] === "tables" && parts.length === 2) return showTable;
  if (parts[0] === "jobs") return parts.length === 1 ? showJobs : showJob;
  return null;
}

/** The map once it is there; what is asked of it before is done then. Without WebGL it never comes, and nothing else needs it. */
let real = null;
let asked = [];
const map = new Proxy(
  {},
  {
    get:
      (_, name) =>
      (...values) =>
        real ? real[name](...values) : void asked.push([name, values]),
  },
);

let current = null;
let shown = null;
let controls = {};

async function route() {
  current?.abort();
  current = new AbortController();
  const { signal } = current;
  const { parts, query } = read();
  const page = pageOf(parts);
  const moved = shown !== null;
  shown = location.hash;
  mark(parts[0] === "jobs" ? "jobs" : "explore");
  document.body.classList.toggle("no-map", parts[0] === "jobs");
  clearMap();
  const place = view(query);
  if (place) map.jump(place);
  const trouble = (error) => error.name !== "AbortError" && explain(error);
  const later = (work) => void work.catch(trouble); // goes on after the page is there
  try {
    if (!page) throw new Error("There is no such page.");
    controls = (await page(panel, { parts, query, signal, map, view: place, later })) ?? {};
    if (moved && !signal.aborted) arrive();
  } catch (error) {
    trouble(error);
  }
}

function mark(section) {
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.dataset.section === section) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

function clearMap() {
  map.showRaster(null);
  map.showTable(null);
  map.showChosen(null);
  map.showBox(null);
  map.showExtents([]);
}

/** On another page the reader begins at its top. */
function arrive() {
  panel.scrollTo(0, 0);
  const heading = panel.querySelector("h1");
  if (heading && !panel.contains(document.activeElement)) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
}

function explain(error) {
  if (error.status === 401 || error.status === 403) return askForToken(error);
  const said = error.status === 404 ? "That is not here" : "That did not work";
  document.title = `${said} – Catalogue`;
  fill(
    panel,
    h(
      "div",
      { class: "note bad", role: "alert" },
      h("h1", {}, said),
      h("p", {}, error.message),
      error.remedy && h("p", {}, h("span", { class: "label" }, "What to do: "), error.remedy),
    ),
    h(
      "p",
      {},
      h("button", { type: "button", onclick: route }, "Try again"),
      " ",
      h("a", { href: "#/" }, "To the catalogue"),
    ),
  );
}

function askForToken(error) {
  document.title = "Token – Catalogue";
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const form = h(
    "form",
    { class: "note" },
    h("h1", {}, "This catalogue asks who you are"),
    h("p", {}, token() ? error.message : "A token is needed: geo-assets token create NAME --scope read"),
    h("label", { for: "token" }, "Token", field),
    h(
      "p",
      {},
      h("button", { type: "submit", class: "primary" }, "Open"),
      h("span", { class: "quiet" }, " It is kept until this tab is closed."),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    route();
  });
  fill(panel, form);
  field.focus();
}

async function startMap() {
  const { CatalogueMap } = await import("./map.js");
  const started = new CatalogueMap(
    document.getElementById("map"),
    {
      moved: (place) => noteView(place),
      picked: (items, at) =>
        items.length === 1
          ? go(["items", items[0].collection, items[0].id])
          : go([], { at: at.map((degrees) => degrees.toFixed(5)).join(",") }),
      feature: (properties, geometry) => controls.feature?.(properties, geometry),
    },
    view(read().query),
  );
  await started.ready;
  real = started;
  for (const [name, values] of asked.splice(0)) real[name](...values);
  document.addEventListener("mark", ({ detail }) => map.showChosen(detail));
  globalThis.catalogueMap = real.view; // for those who look with the browser's tools
}

addEventListener("hashchange", () => {
  if (location.hash !== shown) route();
});
skip.addEventListener("click", (event) => {
  event.preventDefault();
  panel.focus();
});

route();
try {
  await startMap();
} catch (error) {
  asked = { push() {} }; // nobody waits for it any more
  document.body.classList.add("no-map");
  say("The map cannot be shown; everything else works.");
  console.warn("no map:", error);
}
