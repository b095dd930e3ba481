/* Freshens pages that work without it: the live list, the strip, the slider. */
"use strict";

const byId = (id) => document.getElementById(id);
const isLive = () => byId("list") && "live" in byId("list").dataset;

/* What changes the list is done one after the other, in the order in which it came. */
let turn = Promise.resolve();
const inTurn = (work) => { turn = turn.then(work).catch(lose); };

/* What is seen may be old. */
const RETRY = 5000;
const lose = () => { byId("lost").hidden = false; };

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

/* Load the list again from where the page is, or from another place. What stands around a list of today says so: when
   that day is over, all is loaded. */
async function load(url, slid = false) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.status >= 500) throw new Error(`status ${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("list");
  const list = byId("list");
  const isAnother = fresh && list
    && (fresh.dataset.day !== list.dataset.day || (!slid && ("live" in fresh.dataset) !== isLive()));
  if (isAnother) location.assign(url);
  else if (fresh && list) { list.replaceWith(fresh); hideInTime(); }
  else if (answer.redirected || !answer.ok) location.assign(url); // signed out, or refused: that page says it
}

/* Names leave the screen in time, also of a tab to which they came with the list alone. */
let hiding;

function hideInTime() {
  clearTimeout(hiding);
  const seconds = Number(byId("list")?.dataset.revealed || 0);
  if (!seconds) return;
  hiding = setTimeout(() => inTurn(() => {
    byId("rows").replaceChildren(); // also where no other list can be had
    return load(location.href, true);
  }), seconds * 1000);
}

function count() {
  const rows = [...byId("rows").children];
  const statuses = new Map();
  for (const row of rows) statuses.set(row.dataset.status, (statuses.get(row.dataset.status) || 0) + 1);
  const told = [...statuses].map(([status, number]) => ` · ${number} ${status.toLowerCase()}`);
  byId("counts").textContent = `${rows.length} appointment${rows.length === 1 ? "" : "s"}${told.join("")}`;
  byId("empty").hidden = rows.length > 0;
}

/* Names are shown to this browser alone: it asks for its own row. */
async function own(change) {
  const answer = await fetch(`/clinic/item?accession=${encodeURIComponent(change.accession_number)}`);
  return answer.ok ? answer.text() : change.html;
}

async function apply(change) {
  const id = `item-${change.accession_number}`;
  if (change.html === null) {
    byId(id)?.remove();
    return;
  }
  const row = element("revealed" in byId("list").dataset ? await own(change) : change.html);
  row.classList.add("app-changed");
  const old = byId(id);
  const focused = old?.contains(document.activeElement);
  old?.remove();
  byId("rows").insertBefore(row, change.before === null ? null : byId(`item-${change.before}`));
  if (focused) row.querySelector("a").focus();
  byId("said").textContent = `${change.accession_number}: ${change.status.toLowerCase()}`;
}

async function take({ version, changes }) {
  if (!isLive()) return;
  if (changes.some((change) => change.reload)) return load(location.href);
  for (const change of changes) await apply(change);
  byId("list").dataset.version = version;
  count();
}

function again() {
  inTurn(() => load(location.href));
  watch();
}

/* A browser has six connections to a place: a tab that nobody sees keeps none, or the seventh would never load. */
let source;

function watch() {
  source?.close();
  if (document.hidden) return;
  source = new EventSource("/clinic/live");
  source.addEventListener("open", () => { byId("lost").hidden = true; });
  source.addEventListener("error", () => {
    lose();
    if (source.readyState === EventSource.CLOSED) setTimeout(again, RETRY); // refused: the browser itself does not try again
  });
  source.addEventListener("strip", (event) => { byId("strip").innerHTML = JSON.parse(event.data); });
  source.addEventListener("version", (event) => inTurn(() => {
    if (isLive() && byId("list").dataset.version !== event.data) return load(location.href);
  }));
  source.addEventListener("rows", (event) => inTurn(() => take(JSON.parse(event.data))));
}

function slide() {
  const form = byId("slider");
  if (!form) return;
  const range = byId("minute");
  let waiting;
  range.addEventListener("input", () => {
    const minute = Number(range.value);
    const isNow = minute >= Number(range.max);
    const clock = `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
    byId("then").textContent = isNow ? "now" : clock;
    range.setAttribute("aria-valuetext", isNow ? "now" : clock);
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const query = new URLSearchParams(new FormData(form));
      if (isNow) query.delete("minute");
      if (isNow && "today" in form.dataset) query.delete("day"); // tomorrow, that is another
      const url = `/clinic?${query}`.replace(/\?$/, "");
      history.replaceState(null, "", url);
      inTurn(() => load(url, true));
    }, 150);
  });
  const opened = Date.now(), latest = Number(range.max);
  setInterval(() => { // the right end is now, however long the page is open
    const isNow = range.value === range.max;
    range.max = Math.min(24 * 60, latest + Math.floor((Date.now() - opened) / 60_000));
    if (isNow) range.value = range.max;
  }, 10_000);
}

if (byId("strip")) {
  watch();
  document.addEventListener("visibilitychange", watch);
}
slide();
hideInTime();
