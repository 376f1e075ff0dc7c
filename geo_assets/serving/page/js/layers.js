/**
 * The layers of the map, from the sea to what is chosen, and their colours.
 * Here: data only. Not here: the map (`map.js`).
 */

import { ORIGIN } from "./api.js";

const file = (name) => new URL(`../vendor/${name}.json`, import.meta.url).href;
const EMPTY = { type: "FeatureCollection", features: [] };

/** Fonts of the machine: there are none to fetch. */
const FONT = ["sans-serif"];

/** A colour of style.css. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Lines every 15 degrees: where there is no coast there is still something to go by. */
function graticule() {
  const range = (from, to, step) => Array.from({ length: (to - from) / step + 1 }, (_, index) => from + index * step);
  const lines = [
    ...range(-180, 180, 15).map((x) => range(-85, 85, 5).map((y) => [x, y])),
    ...range(-75, 75, 15).map((y) => range(-180, 180, 5).map((x) => [x, y])),
  ];
  return { type: "MultiLineString", coordinates: lines };
}

export function sources() {
  return {
    land: { type: "geojson", data: file("land") },
    borders: { type: "geojson", data: file("borders") },
    names: { type: "geojson", data: file("names") },
    graticule: { type: "geojson", data: graticule() },
    extents: { type: "geojson", data: EMPTY },
    footprints: { type: "geojson", data: EMPTY, tolerance: 0.5, buffer: 8, maxzoom: 14 },
    points: {
      type: "geojson",
      data: EMPTY,
      cluster: true,
      clusterRadius: 44,
      clusterMinPoints: 12,
      clusterMaxZoom: 13,
      maxzoom: 14,
    },
    chosen: { type: "geojson", data: EMPTY },
    box: { type: "geojson", data: EMPTY },
  };
}

/** A footprint is drawn as an outline from the zoom at which one can see its form, below as a dot. */
const HAS_FORM = [">=", ["zoom"], ["get", "zoom"]];

/** What covers half the world would tint all that lies in it. */
const FAINT_IF_LARGE = ["interpolate", ["linear"], ["get", "width"], 20, 0.07, 60, 0];

/** Every layer: id, what it draws, and its colours as a function, because they change with dark and light. */
export const LAYERS = [
  { id: "sea", type: "background", paint: () => ({ "background-color": colour("sea") }) },
  {
    id: "land",
    type: "fill",
    source: "land",
    paint: () => ({ "fill-color": colour("land"), "fill-antialias": false }),
  },
  {
    id: "graticule",
    type: "line",
    source: "graticule",
    paint: () => ({ "line-color": colour("graticule"), "line-width": 0.6 }),
  },
  { id: "coast", type: "line", source: "land", paint: () => ({ "line-color": colour("coast"), "line-width": 0.7 }) },
  {
    id: "borders",
    type: "line",
    source: "borders",
    paint: () => ({ "line-color": colour("border"), "line-width": 0.8, "line-dasharray": [3, 2] }),
  },
  {
    id: "extents-line",
    type: "line",
    source: "extents",
    paint: () => ({ "line-color": colour("mark"), "line-width": 1.4, "line-dasharray": [4, 3] }),
  },
  {
    id: "footprints-fill",
    type: "fill",
    source: "footprints",
    filter: HAS_FORM,
    paint: () => ({ "fill-color": colour("mark"), "fill-opacity": FAINT_IF_LARGE }),
  },
  {
    id: "footprints-line",
    type: "line",
    source: "footprints",
    filter: HAS_FORM,
    paint: () => ({ "line-color": colour("mark"), "line-width": 1.2, "line-opacity": 0.85 }),
  },
  {
    id: "points-clusters",
    type: "circle",
    source: "points",
    filter: ["has", "point_count"],
    paint: () => ({
      "circle-color": colour("mark"),
      "circle-opacity": 0.88,
      "circle-radius": ["interpolate", ["linear"], ["get", "point_count"], 12, 12, 200, 17, 2000, 23, 20000, 30],
      "circle-stroke-color": colour("paper"),
      "circle-stroke-width": 1.5,
    }),
  },
  {
    id: "points-dots",
    type: "circle",
    source: "points",
    filter: ["all", ["!", ["has", "point_count"]], ["<", ["zoom"], ["get", "zoom"]]],
    paint: () => ({
      "circle-color": colour("mark"),
      "circle-radius": 4.5,
      "circle-stroke-color": colour("paper"),
      "circle-stroke-width": 1.2,
    }),
  },
  {
    id: "chosen-line",
    type: "line",
    source: "chosen",
    paint: () => ({ "line-color": colour("chosen"), "line-width": 2.4 }),
  },
  {
    id: "chosen-dot",
    type: "circle",
    source: "chosen",
    filter: ["==", ["geometry-type"], "Point"],
    paint: () => ({
      "circle-color": "transparent",
      "circle-radius": 8,
      "circle-stroke-color": colour("chosen"),
      "circle-stroke-width": 2.4,
    }),
  },
  {
    id: "box-fill",
    type: "fill",
    source: "box",
    paint: () => ({ "fill-color": colour("chosen"), "fill-opacity": 0.07 }),
  },
  {
    id: "box-line",
    type: "line",
    source: "box",
    paint: () => ({ "line-color": colour("chosen"), "line-width": 1.6, "line-dasharray": [2, 1.5] }),
  },
  {
    id: "names",
    type: "symbol",
    source: "names",
    filter: [">=", ["zoom"], ["get", "zoom"]],
    layout: {
      "text-field": ["get", "name"],
      "text-font": FONT,
      "text-size": 11,
      "text-max-width": 8,
      "text-padding": 6,
    },
    paint: () => ({ "text-color": colour("place"), "text-halo-color": colour("land"), "text-halo-width": 1.2 }),
  },
  {
    id: "points-counts",
    type: "symbol",
    source: "points",
    filter: ["has", "point_count"],
    layout: {
      "text-field": ["get", "point_count_abbreviated"],
      "text-font": FONT,
      "text-size": 12,
      "text-allow-overlap": true,
    },
    paint: () => ({ "text-color": colour("paper") }),
  },
];

/** Above which layer pictures and tables are put: everything that marks something stays over them. */
export const ABOVE_PICTURES = "extents-line";

export const style = () => ({
  version: 8,
  sources: sources(),
  layers: LAYERS.map(({ paint, ...layer }) => ({ ...layer, paint: paint() })),
});

/** The layers of a table: areas, lines and points of its vector tiles. */
export function tableLayers(source) {
  const of = (kind) => ["==", ["geometry-type"], kind];
  const shared = { source, "source-layer": "default" };
  return [
    {
      id: `${source}-fill`,
      type: "fill",
      ...shared,
      filter: of("Polygon"),
      paint: { "fill-color": colour("table"), "fill-opacity": 0.16 },
    },
    {
      id: `${source}-line`,
      type: "line",
      ...shared,
      filter: ["!=", ["geometry-type"], "Point"],
      paint: { "line-color": colour("table"), "line-width": 1.3 },
    },
    {
      id: `${source}-dot`,
      type: "circle",
      ...shared,
      filter: of("Point"),
      paint: {
        "circle-color": colour("table"),
        "circle-radius": ["interpolate", ["linear"], ["zoom"], 2, 2.4, 10, 4.5],
        "circle-stroke-color": colour("paper"),
        "circle-stroke-width": 0.8,
      },
    },
  ];
}

export const absolute = (path) => `${ORIGIN}${path}`;
