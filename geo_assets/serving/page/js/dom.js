/**
 * Making elements. Text goes in as text, never as HTML: names of files and values of items come from strangers.
 * Here: elements, what is said to screen readers, copying. Not here: what is shown.
 */

import { moment } from "./format.js";

/** Attributes that take an address; one of another scheme than http or https is left out. */
const ADDRESSES = new Set(["href", "src"]);

/**
 * An element.
 * @param {string} tag
 * @param {Object} props attributes; `class`; `onclick` and other listeners; true: there without value; null, undefined, false: left out
 * @param {...(Node|string|number|null|undefined|Array)} children strings become text
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (ADDRESSES.has(name)) {
      if (isAddress(value)) element.setAttribute(name, value);
    } else if (name === "value" || name === "checked" || name === "disabled" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** Whether an address may be followed: a fragment, a path of this origin, http, https, or a picture that this page made. */
export function isAddress(value) {
  if (String(value).startsWith("#")) return true;
  try {
    return ["http:", "https:", "blob:"].includes(new URL(value, location.href).protocol);
  } catch {
    return false;
  }
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Put these in the place of all that is in `element`. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

let spoken = 0;

/** Tell screen readers; what is said twice is read twice. */
export function say(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  const turn = ++spoken;
  setTimeout(() => turn === spoken && (live.textContent = text), 60);
}

/** A button that copies a text. */
export function copyButton(text, what) {
  const label = h("span", { "aria-hidden": "true" }, "Copy");
  const button = h("button", { type: "button", class: "small", "aria-label": `Copy ${what}` }, label);
  button.addEventListener("click", async () => {
    const done = await copy(text);
    label.textContent = done ? "Copied" : "Press Ctrl+C";
    say(done ? `${what}: copied` : "Press Control and C to copy");
    setTimeout(() => (label.textContent = "Copy"), 2000);
  });
  return button;
}

/** By the clipboard, which a page has on https and loopback only; else by a selection. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A short text to copy, with its name. */
export function copyable(title, text, note) {
  return h(
    "div",
    { class: "copyable" },
    h("div", { class: "copyable-head" }, h("span", {}, title), copyButton(text, title)),
    h("pre", { tabindex: "0", "aria-label": title }, text),
    note && h("p", { class: "quiet" }, note),
  );
}

/** When something happened, by the clock of who looks; in UTC for who points at it. */
export function when(time) {
  const shown = moment(time);
  return shown && h("time", { datetime: time, title: new Date(time).toISOString() }, shown);
}

/** Names and values, without those that have none. */
export function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return rows.length
    ? h(
        "dl",
        { class: "facts" },
        rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
      )
    : null;
}
