/**
 * The map: outlines of the world, footprints, pictures of rasters, tables as vector tiles, and a box to be drawn.
 * Here: MapLibre, which no other module names. Not here: what is asked of the server, colours (`layers.js`).
 */

import { AttributionControl, Map as MapView, NavigationControl, ScaleControl } from "../vendor/maplibre-gl.mjs";
import { headers, ORIGIN } from "./api.js";
import { h } from "./dom.js";
import { place } from "./format.js";
import { around, boxOf, boxShape, halves, middle, width, zoomFor } from "./geometry.js";
import { ABOVE_PICTURES, absolute, LAYERS, style, tableLayers } from "./layers.js";

/** Pixels at which a footprint has a form. */
const FORM = 14;

const collect = (features) => ({ type: "FeatureCollection", features });
const feature = (geometry, properties = {}) => ({ type: "Feature", geometry, properties });

export class CatalogueMap {
  /**
   * @param {HTMLElement} container
   * @param {Object} on `moved(view)`, `picked([{collection, id}], [longitude, latitude])`, `feature(properties, geometry)`
   */
  constructor(container, on, view) {
    this.on = on;
    this.table = null;
    this.rasters = [];
    const start = view ? { center: [view.longitude, view.latitude], zoom: view.zoom } : { center: [10, 20], zoom: 0.9 };
    this.view = new MapView({
      container,
      style: style(),
      ...start,
      minZoom: 0,
      maxZoom: 22,
      dragRotate: false,
      pitchWithRotate: false,
      attributionControl: false,
      fadeDuration: 100,
      transformRequest: (url) => (url.startsWith(`${ORIGIN}/`) ? { url, headers: headers() } : { url }),
      locale: { "Map.Title": "Map. Arrow keys move it, plus and minus zoom." },
    });
    this.view.touchZoomRotate.disableRotation();
    this.view.keyboard.disableRotation();
    this.view.addControl(new NavigationControl({ showCompass: false }), "top-right");
    this.view.addControl(new ScaleControl({ maxWidth: 110 }), "bottom-left");
    this.view.addControl(
      new AttributionControl({ compact: true, customAttribution: "Outlines: Natural Earth" }),
      "bottom-right",
    );
    this.ready = new Promise((resolve) => this.view.once("load", resolve));
    this.view.on("error", ({ error }) => this.on.trouble?.(error));
    this.#follow(container);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#repaint());
  }

  #follow(container) {
    const readout = h("div", { class: "readout", "aria-hidden": "true" });
    container.append(readout);
    this.view.on("mousemove", ({ lngLat, point }) => {
      const { lng, lat } = lngLat.wrap();
      readout.textContent = place(lng, lat);
      this.view.getCanvas().style.cursor = this.drawing ? "crosshair" : this.#under(point).length ? "pointer" : "";
    });
    this.view.on("mouseout", () => (readout.textContent = ""));
    this.view.on("click", (event) => this.#clicked(event));
    this.view.on("moveend", () => {
      const { lng, lat } = this.view.getCenter().wrap();
      this.on.moved({ zoom: this.view.getZoom(), longitude: lng, latitude: lat });
    });
  }

  #repaint() {
    for (const { id, paint } of LAYERS)
      for (const [name, value] of Object.entries(paint())) this.view.setPaintProperty(id, name, value);
    if (this.table) this.showTable(this.table);
  }

  /** What is drawn at a place: features of the table, or if there are none, items. */
  #under({ x, y }) {
    const near = [
      [x - 4, y - 4],
      [x + 4, y + 4],
    ];
    const at = (...layers) => this.view.queryRenderedFeatures(near, { layers });
    const features = this.table ? at("table-fill", "table-line", "table-dot") : [];
    return features.length ? features : at("points-clusters", "points-dots", "footprints-fill");
  }

  async #clicked({ point, lngLat }) {
    if (this.drawing) return;
    const found = this.#under(point);
    const [first] = found;
    if (!first) return;
    if (first.source === "table") {
      this.showChosen(first.geometry);
      this.on.feature(first.properties, first.geometry);
    } else if (first.properties.cluster) {
      const zoom = await this.view.getSource("points").getClusterExpansionZoom(first.properties.cluster_id);
      this.view.easeTo({ center: first.geometry.coordinates, zoom: Math.max(zoom, this.view.getZoom() + 1) });
    } else {
      const items = new Map(
        found
          .filter((f) => f.properties.item)
          .map((f) => [`${f.properties.collection}/${f.properties.item}`, f.properties]),
      );
      const { lng, lat } = lngLat.wrap();
      this.on.picked(
        [...items.values()].map(({ collection, item }) => ({ collection, id: item })),
        [lng, lat],
      );
    }
  }

  /** Draw items; of each an outline, or a dot where that would be too small to see. */
  showItems(items) {
    const [shapes, dots] = [[], []];
    for (const { id, collection, geometry } of items) {
      const box = boxOf(geometry);
      if (!box) continue;
      const zoom = Math.round(zoomFor(box, FORM) * 10) / 10;
      const properties = { item: id, collection, zoom, width: Math.round(width(box)) };
      shapes.push(feature(geometry, properties));
      if (properties.zoom > 0) dots.push(feature({ type: "Point", coordinates: middle(box) }, properties));
    }
    this.view.getSource("footprints").setData(collect(shapes));
    this.view.getSource("points").setData(collect(dots));
  }

  /** Draw the boxes of collections; one across 180° in two halves. */
  showExtents(boxes) {
    this.view.getSource("extents").setData(collect(boxes.map((box) => feature(boxShape(box)))));
  }

  showChosen(geometry) {
    this.view.getSource("chosen").setData(collect(geometry ? [feature(geometry)] : []));
  }

  showBox(box) {
    this.view.getSource("box").setData(collect(box ? [feature(boxShape(box))] : []));
  }

  /** Draw a raster within its box, in two halves if it crosses 180°; without tiles: none. */
  showRaster(tiles, box, opacity = 1) {
    for (const id of this.rasters) {
      this.view.removeLayer(id);
      this.view.removeSource(id);
    }
    this.rasters = [];
    if (!tiles) return;
    for (const [number, bounds] of halves(box).entries()) {
      const id = `raster-${number}`;
      this.view.addSource(id, {
        type: "raster",
        tiles: [absolute(tiles)],
        tileSize: 256,
        bounds: clamp(bounds),
        maxzoom: 22,
      });
      this.view.addLayer(
        {
          id,
          type: "raster",
          source: id,
          paint: { "raster-opacity": opacity, "raster-fade-duration": 150, "raster-resampling": "nearest" },
        },
        this.#above(),
      );
      this.rasters.push(id);
    }
  }

  setOpacity(opacity) {
    for (const id of this.rasters) this.view.setPaintProperty(id, "raster-opacity", opacity);
  }

  /** Draw a table by the address of its vector tiles; without one: none. */
  showTable(tiles) {
    if (this.table) {
      for (const { id } of tableLayers("table")) this.view.removeLayer(id);
      this.view.removeSource("table");
    }
    this.table = tiles;
    if (!tiles) return;
    this.view.addSource("table", { type: "vector", tiles: [absolute(tiles)], maxzoom: 18 });
    for (const layer of tableLayers("table")) this.view.addLayer(layer, this.#above());
  }

  #above() {
    return this.view.getLayer(ABOVE_PICTURES) ? ABOVE_PICTURES : undefined;
  }

  /** Move the map so that all boxes are seen; not at all if there is none. */
  fit(boxes, { animate = true, most = 16 } = {}) {
    const box = around(boxes);
    if (!box) return;
    const east = box[0] + width(box); // past 180 where it crosses
    const pad = Math.min(60, this.view.getContainer().clientHeight / 8);
    const limit = (latitude) => Math.min(85, Math.max(-85, latitude));
    this.view.fitBounds(
      [
        [box[0], limit(box[1])],
        [east, limit(box[3])],
      ],
      { padding: pad, maxZoom: most, animate, duration: 600 },
    );
  }

  jump({ zoom, longitude, latitude }) {
    this.view.jumpTo({ center: [longitude, latitude], zoom });
  }

  /** The box that is in view. */
  bounds() {
    const seen = this.view.getBounds();
    const wrap = (x) => ((((x + 180) % 360) + 360) % 360) - 180;
    const all = seen.getEast() - seen.getWest() >= 360;
    const limit = (latitude) => Math.min(90, Math.max(-90, latitude));
    return [
      all ? -180 : wrap(seen.getWest()),
      limit(seen.getSouth()),
      all ? 180 : wrap(seen.getEast()),
      limit(seen.getNorth()),
    ];
  }

  /** Let a box be drawn by mouse or finger. Resolves with the box, or null if it was given up (Escape). */
  drawBox() {
    this.drawing?.(null);
    const { view } = this;
    const canvas = view.getCanvasContainer();
    return new Promise((resolve) => {
      let start = null;
      const at = (event) => {
        const frame = canvas.getBoundingClientRect();
        return view.unproject([event.clientX - frame.left, event.clientY - frame.top]);
      };
      const between = (a, b) => {
        const wrap = (x) => ((((x + 180) % 360) + 360) % 360) - 180;
        const [west, east] = [Math.min(a.lng, b.lng), Math.max(a.lng, b.lng)];
        const whole = east - west >= 360;
        return [whole ? -180 : wrap(west), Math.min(a.lat, b.lat), whole ? 180 : wrap(east), Math.max(a.lat, b.lat)];
      };
      const down = (event) => {
        event.preventDefault();
        event.stopPropagation();
        canvas.setPointerCapture?.(event.pointerId);
        start = at(event);
      };
      const move = (event) => start && this.showBox(between(start, at(event)));
      const up = (event) => {
        if (!start) return;
        const box = between(start, at(event));
        this.drawing(width(box) > 0 && box[3] > box[1] ? box : null);
      };
      const key = (event) => event.key === "Escape" && this.drawing(null);
      const listeners = [
        ["pointerdown", down],
        ["pointermove", move],
        ["pointerup", up],
      ];
      for (const [name, listener] of listeners) canvas.addEventListener(name, listener, true);
      document.addEventListener("keydown", key);
      view.dragPan.disable();
      canvas.classList.add("drawing");
      this.drawing = (box) => {
        for (const [name, listener] of listeners) canvas.removeEventListener(name, listener, true);
        document.removeEventListener("keydown", key);
        view.dragPan.enable();
        canvas.classList.remove("drawing");
        setTimeout(() => (this.drawing = null)); // after the click that ends the drawing
        resolve(box);
      };
    });
  }
}

/** Tiles of Web Mercator end there. */
const clamp = ([west, south, east, north]) => [west, Math.max(south, -85.0511), east, Math.min(north, 85.0511)];
