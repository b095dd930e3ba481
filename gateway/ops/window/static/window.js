/* Freshens pages that work without it: the live list, the strip, the slider. */
"use strict";

const byId = (id) => document.getElementById(id);

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

/* Load the list again from where the page is, or from another place. */
async function load(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("list");
  if (fresh) byId("list").replaceWith(fresh);
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
  const answer = await fetch(`/clinic/items/${encodeURIComponent(change.accession_number)}`);
  return answer.ok ? answer.text() : change.html;
}

async function apply(change) {
  const id = `item-${change.accession_number}`;
  const old = byId(id);
  if (change.html === null) {
    if (old) old.remove();
    return;
  }
  const row = element("revealed" in byId("list").dataset ? await own(change) : change.html);
  row.classList.add("app-changed");
  const focused = old && old.contains(document.activeElement);
  if (old) old.remove();
  byId("rows").insertBefore(row, change.before === null ? null : byId(`item-${change.before}`));
  if (focused) row.querySelector("a").focus();
  byId("said").textContent = `${change.accession_number}: ${change.status.toLowerCase()}`;
}

function watch() {
  const source = new EventSource("/clinic/live");
  const isLive = () => byId("list") && "live" in byId("list").dataset;
  source.addEventListener("strip", (event) => { byId("strip").innerHTML = JSON.parse(event.data); });
  source.addEventListener("version", (event) => {
    if (isLive() && byId("list").dataset.version !== event.data) load(location.href);
  });
  source.addEventListener("rows", async (event) => {
    if (!isLive()) return;
    const { version, changes } = JSON.parse(event.data);
    if (changes.some((change) => change.reload)) { await load(location.href); return; }
    for (const change of changes) await apply(change);
    byId("list").dataset.version = version;
    count();
  });
}

function slide() {
  const form = byId("slider");
  if (!form) return;
  const range = byId("minute");
  let waiting;
  const moved = () => {
    const minute = Number(range.value);
    const isNow = minute >= Number(range.max);
    const clock = `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
    byId("then").textContent = isNow ? "now" : clock;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const query = new URLSearchParams(new FormData(form));
      if (isNow) query.delete("minute");
      const url = `/clinic?${query}`;
      history.replaceState(null, "", url);
      load(url);
    }, 150);
  };
  range.addEventListener("input", moved);
}

if (byId("strip")) watch();
slide();
