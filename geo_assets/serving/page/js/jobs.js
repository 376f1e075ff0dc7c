/**
 * The pages of jobs: which there are, how far one is, which files were bad and what to do, what a re-delivery changed.
 * Here: what the API tells of jobs. Not here: starting or stopping them: this page changes nothing.
 */

import { API, json } from "./api.js";
import { link } from "./address.js";
import { copyButton, facts, fill, h, say, when } from "./dom.js";
import { bytes, count, counted, duration, lasted, words } from "./format.js";

/** Milliseconds between two looks at a job that is at work. */
const AGAIN = 2000;

const COMPLETED = new Set(["completed", "completed_with_errors"]);
const FINAL = new Set(["completed", "completed_with_errors", "failed", "cancelled", "invalid"]);

/** A sign and a word for each status: colour alone tells nothing to those who do not see it. */
const SIGNS = {
  queued: ["…", "wait"],
  processing: ["▸", "work"],
  completed: ["✓", "good"],
  completed_with_errors: ["!", "warn"],
  failed: ["✕", "bad"],
  cancelled: ["–", "wait"],
  invalid: ["✕", "bad"],
  succeeded: ["✓", "good"],
  skipped: ["✓", "good"],
  quarantined: ["!", "warn"],
  running: ["▸", "work"],
  pending: ["…", "wait"],
};

function badge(status) {
  const [sign, kind] = SIGNS[status] ?? ["·", "wait"];
  return h("span", { class: `badge ${kind}` }, h("span", { "aria-hidden": "true" }, `${sign} `), words(status));
}

/** What a job is about, in a few words. */
const subject = (job) => job.parameters?.container ?? job.parameters?.collection ?? job.partition_key;

export async function showJobs(panel, { signal, query }) {
  document.title = "Jobs – Catalogue";
  const before = query.get("before");
  const page = await json(`${API}/jobs?limit=50${before ? `&before=${encodeURIComponent(before)}` : ""}`, { signal });
  fill(
    panel,
    h("h1", {}, "Jobs"),
    page.jobs.length
      ? h("ul", { class: "cards" }, page.jobs.map(jobCard))
      : h("p", { class: "quiet" }, "No job has been submitted yet."),
    page.next &&
      h(
        "p",
        {},
        h("a", { class: "button", href: link(["jobs"], { before: page.jobs.at(-1).created_at }) }, "Earlier jobs"),
      ),
  );
}

function jobCard(job) {
  return h(
    "li",
    {},
    h(
      "a",
      { class: "card", href: link(["jobs", job.job_id]) },
      h("span", { class: "between" }, h("strong", {}, subject(job)), badge(job.status)),
      h(
        "span",
        { class: "quiet meta" },
        h("span", {}, words(job.job_type)),
        h("span", {}, when(job.created_at)),
        job.started_at && h("span", {}, lasted(job.started_at, job.ended_at)),
      ),
    ),
  );
}

export async function showJob(panel, { parts: [, id], signal, later }) {
  const read = () => json(`${API}/jobs/status/${encodeURIComponent(id)}`, { signal });
  const job = await read();
  document.title = `${subject(job)} – Jobs`;
  const top = h("section", { "aria-label": "Progress" });
  const bad = h("section", { "aria-label": "Bad files" });
  const request = h("section", { "aria-label": "Request" }, requestPart(job));
  const files = h("section", { "aria-label": "Files" });
  fill(
    panel,
    h("p", { class: "crumbs" }, h("a", { href: link(["jobs"]) }, "Jobs")),
    h("h1", {}, subject(job)),
    top,
    bad,
    request,
    files,
  );
  later(follow(job, read, { top, bad, files }, signal));
}

/** Show the job again and again until it has ended. What is the same stays, with what is open or has the focus. */
async function follow(job, read, { top, bad, files }, signal) {
  let [shown, told] = ["", ""];
  for (;;) {
    const now = JSON.stringify({ ...job, progress: null });
    if (now !== shown) fill(top, progress(job, signal));
    shown = now;
    top.querySelector(".clock").textContent = lasted(job.started_at, job.ended_at) ?? "";
    fill(top.querySelector(".pace"), pace(job.progress));
    fill(top.querySelector(".way"), FINAL.has(job.status) ? [] : way(job.progress));
    await badFiles(bad, job, signal);
    const news = announcement(job);
    if (told && news !== told) say(news);
    told = news;
    if (FINAL.has(job.status)) break;
    await pause(AGAIN, signal);
    job = await read();
  }
  await listFiles(files, job, signal);
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("gone", "AbortError"));
    });
  });
}

/** The tasks of a stage whose work was done; what was cancelled was not. */
const done = (stage) => stage.total - (stage.running ?? 0) - (stage.pending ?? 0) - (stage.cancelled ?? 0);

/** How many of its files are bad. */
const badOf = (job) => job.stages.reduce((sum, stage) => sum + (stage.quarantined ?? 0) + (stage.failed ?? 0), 0);

/** What is said aloud of a job: the status, and quarters of the way that is shown. */
function announcement(job) {
  const { files, files_done: ended } = job.progress ?? {};
  const quarter = files ? Math.floor((4 * ended) / files) : 0;
  return `${words(job.status)}${FINAL.has(job.status) ? "" : `, ${quarter * 25} %`}`;
}

function progress(job, signal) {
  return [
    h("p", { class: "lead" }, badge(job.status), " ", h("span", { class: "clock" })),
    h("p", { class: "way" }),
    h("p", { class: "meta quiet pace" }),
    job.error_message &&
      h(
        "div",
        { class: "note bad" },
        h("strong", {}, words(job.error_code)),
        h("p", {}, job.error_message),
        job.remedy && h("p", {}, h("span", { class: "label" }, "What to do: "), job.remedy),
      ),
    superseded(job),
    (job.remarks ?? []).map((remark) => h("p", { class: "note warn" }, remark)),
    deltaPart(job, signal),
    job.stages.length > 0 && h("h2", {}, "Stages"),
    job.stages.map((stage) => {
      const parts = ["succeeded", "skipped", "quarantined", "failed", "cancelled"]
        .filter((status) => stage[status] > 0)
        .map((status) => `${count(stage[status])} ${words(status)}`);
      if (typeof stage.efficiency === "number") {
        parts.push(`workers busy ${Math.round(stage.efficiency * 100)} % of the time`);
      }
      const name = words(stage.stage);
      return h(
        "div",
        { class: "stage" },
        h(
          "span",
          { class: "between" },
          h("span", {}, name),
          h("span", { class: "quiet" }, `${count(done(stage))} of ${count(stage.total)}`),
        ),
        h("progress", { max: Math.max(1, stage.total), value: stage.total ? done(stage) : 1, "aria-label": name }),
        h("span", { class: "quiet" }, parts.join(" · ")),
      );
    }),
    warningsPart(job, signal),
  ];
}

/** Which jobs have published items of this one since, in the place of what it had made. */
function superseded(job) {
  return Object.entries(job.superseded_by ?? {}).map(([by, items]) =>
    h("p", { class: "note" }, `${counted(items, "item")} now ${items === 1 ? "comes" : "come"} from `, jobLink(by), "."),
  );
}

const jobLink = (id) => h("a", { href: link(["jobs", id]) }, `job ${id.slice(0, 12)}`);

/** How far the work on the files is: they are counted in their stage once the catalogue has them, which is later. */
function way(now) {
  return now?.files ? h("progress", { max: now.files, value: now.files_done, "aria-label": "Files" }) : [];
}

/** How fast a job is, and when it will have ended, as far as that is known. */
function pace(now) {
  if (!now?.bytes) return [];
  const [left, low, high] = ["", "_low", "_high"].map((name) => now[`remaining_seconds${name}`]);
  return [
    h("span", {}, `${count(now.files_done)} of ${counted(now.files, "file")}`),
    now.files_per_second > 0 && h("span", {}, `${now.files_per_second.toFixed(1)} files a second`),
    now.bytes_per_second > 0 && h("span", {}, `${bytes(now.bytes_per_second)} a second`),
    left !== null && h("span", {}, `about ${duration(left)} left (${duration(low)} to ${duration(high)})`),
    now.ends_at && h("span", {}, "until ", when(now.ends_at)),
  ];
}

/** A parameter that says nothing: it was left out. */
const isEmpty = (found) => found === null || found === false || found === "" || (Array.isArray(found) && !found.length);

function requestPart(job) {
  const collection = job.parameters?.collection ?? job.parameters?.container;
  const said = Object.entries(job.parameters ?? {}).filter(([name, found]) => !isEmpty(found) && name !== "collection");
  return [
    h("h2", {}, "Request"),
    facts([
      ["Job type", words(job.job_type)],
      ["Collection", collection && h("a", { href: link([], { in: `${collection}` }) }, collection)],
      ["Submitted", [when(job.created_at), ` by ${job.submitted_by}`]],
      ["Attempt", job.attempt],
      ["Id", [h("code", {}, job.job_id), " ", copyButton(job.job_id, "id")]],
      ...said.map(([name, found]) => [words(name), typeof found === "object" ? JSON.stringify(found) : String(found)]),
    ]),
  ];
}

/** What a delivery changed, once all of it was worked on: how many files, and which as soon as somebody asks. */
function deltaPart(job, signal) {
  const kinds = ["new", "changed", "gone", "unchanged"].filter((kind) => job.delta?.[kind] !== undefined);
  if (!kinds.length || !COMPLETED.has(job.status)) return null;
  const bad = badOf(job);
  const figures = [...kinds.map((kind) => [kind, job.delta[kind]]), ...(bad ? [["bad", bad]] : [])];
  return [
    h("h2", {}, "Since the delivery before"),
    h(
      "ul",
      { class: "figures" },
      figures.map(([kind, files]) => h("li", {}, h("strong", {}, count(files)), h("span", { class: "quiet" }, kind))),
    ),
    kinds
      .filter((kind) => job.delta[kind] > 0 && kind !== "unchanged")
      .map((kind) =>
        whichFiles(`${words(kind)}: ${counted(job.delta[kind], "file")}`, {
          path: `${API}/jobs/${encodeURIComponent(job.job_id)}/delta`,
          query: `?only=${kind}`,
          lines: (page) => page.files.map(deltaLine),
          signal,
        }),
      ),
  ];
}

/** How many files, and which as soon as somebody asks: `lines` makes elements of each page that is fetched. */
function whichFiles(summary, { path, query, lines, signal }) {
  const files = h("ul", { class: "paths" });
  const more = h("button", { type: "button", hidden: true }, "Show more");
  const said = h("p", { role: "alert", hidden: true });
  let left = query;
  const add = async () => {
    try {
      const page = await json(`${path}${left}`, { signal });
      files.append(...lines(page));
      left = page.next && new URL(page.next).search;
      more.hidden = !left;
      said.hidden = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      said.textContent = error.message;
      [said.hidden, more.hidden] = [false, false];
    }
  };
  more.addEventListener("click", add);
  const part = h("details", {}, h("summary", {}, summary), files, said, more);
  part.addEventListener("toggle", add, { once: true });
  return part;
}

function deltaLine({ file, withdrawn }) {
  const fate = { true: "its results were withdrawn", false: "its results were kept" }[withdrawn];
  return h("li", {}, file, fate && h("span", { class: "quiet" }, ` ${fate}`));
}

function warningsPart(job, signal) {
  const kinds = Object.entries(job.warnings ?? {});
  if (!kinds.length) return null;
  return [
    h("h2", {}, "Remarks"),
    kinds.map(([kind, number]) =>
      whichFiles(`${words(kind)}: ${counted(number, "file")}`, {
        path: `${API}/db/tasks/${encodeURIComponent(job.job_id)}/warned`,
        query: `?${new URLSearchParams({ kind })}`,
        lines: (page) => page.tasks.map(warnedLine),
        signal,
      }),
    ),
  ];
}

function warnedLine({ task_key: file, stac_item: item, warnings }) {
  return h(
    "li",
    {},
    fileName(file, item),
    warnings.map((said) => h("p", { class: "quiet" }, said)),
  );
}

async function tasksOf(job, query, signal) {
  return json(`${API}/db/tasks/${encodeURIComponent(job.job_id)}?${query}`, { signal });
}

async function badFiles(section, job, signal) {
  const number = badOf(job);
  if (section.dataset.number === String(number)) return;
  section.dataset.number = String(number);
  if (!number) return fill(section);
  const { tasks } = await tasksOf(job, "status=quarantined&status=failed&limit=200", signal);
  fill(
    section,
    h("h2", {}, counted(number, "bad file")),
    h(
      "ul",
      { class: "bad-files" },
      tasks.map((task) =>
        h(
          "li",
          { class: "note warn" },
          h("div", { class: "between" }, h("strong", { class: "path" }, task.task_key), badge(task.status)),
          h("p", {}, task.error_message),
          task.remedy && h("p", {}, h("span", { class: "label" }, "What to do: "), task.remedy),
          h("p", { class: "quiet" }, h("code", {}, task.error_code)),
        ),
      ),
    ),
    number > tasks.length &&
      h(
        "p",
        { class: "quiet" },
        `The first ${count(tasks.length)}; all: geo-assets tasks ${job.job_id.slice(0, 12)} --status quarantined`,
      ),
  );
}

/** Every good file, page by page, with a link to its item. */
async function listFiles(section, job, signal) {
  let after = "";
  const list = h("ul", { class: "paths" });
  const more = h("button", { type: "button" }, "Show more");
  const add = async () => {
    const page = await tasksOf(job, `status=succeeded&status=skipped&limit=100${after}`, signal);
    list.append(...page.tasks.map(fileLine));
    const tail = page.tasks.at(-1);
    after = tail ? `&${new URLSearchParams({ after_stage: tail.stage, after: tail.task_key })}` : "";
    more.hidden = !page.next;
  };
  await add();
  if (!list.children.length) return;
  more.addEventListener("click", add);
  fill(section, h("h2", {}, "Good files"), list, more);
}

/** The name of a file, which leads to its item where there is one: COLLECTION/ITEM. */
function fileName(file, stacItem) {
  const [collection, ...item] = (stacItem ?? "").split("/");
  return item.length ? h("a", { href: link(["items", collection, item.join("/")]) }, file) : file;
}

function fileLine(task) {
  const remarks = task.outputs?.warnings ?? [];
  return h(
    "li",
    {},
    fileName(task.task_key, task.outputs?.stac_item),
    task.superseded_by && h("span", { class: "quiet" }, " now from ", jobLink(task.superseded_by)),
    remarks.length > 0 && h("span", { class: "quiet" }, ` ${counted(remarks.length, "remark")}: ${remarks[0]}`),
  );
}
