// The list of exports: search, details, replay.
//
// No row moves by itself: a list that is shown stays as it is, and only its statuses are updated.
// New exports are counted on a button, which shows them.

import { readError, request } from "/api.js";
import { $, bytes, count, el, link, moment, setText } from "/drawing.js";

const LIMIT = 25;
const NEWER_MAX = 100; // newer exports that are counted
const REFRESH_SECONDS = 2; // between two updates of a list
const STATUSES = { set_aside: "set aside", gone: "erased" };
const ISOLATION = { own_file: "in a file of its own", small_group: "in a small group", alone: "alone" };
const MAY_CHANGE = ["accepted", "set_aside"];

let before = null; // the cursor of the page that is shown
let older = null; // and of the next one
let shown = new Map(); // the entries in the list, by id
let listings = 0; // lists that were shown so far
let canReplay = false;
let datasetUrl = null;
let shownCounts = ""; // the counts at the last update
let timer = null;
let openId = null; // the export in the dialog

const search = $("search");
const dialog = $("export");

// Draw something above the list. While the pointer or the focus is in the list, its rows stay in
// place: the page scrolls by as much as they move, or gets a margin where it cannot.
export function keepRows(...steps) {
  const list = $("exports");
  const main = $("main");
  const isInUse = list.matches(":hover, :focus-within");
  if (!isInUse) main.style.paddingTop = "";
  const { top } = list.getBoundingClientRect();
  for (const step of steps) step();
  if (!isInUse) return;
  scrollBy(0, list.getBoundingClientRect().top - top);
  const missing = top - list.getBoundingClientRect().top;
  if (missing > 0) main.style.paddingTop = `${missing + (parseFloat(main.style.paddingTop) || 0)}px`;
}

const showMessage = (text) => keepRows(() => setText($("message"), text));

function buildQuery() {
  const query = new URLSearchParams({ limit: LIMIT });
  for (const name of ["status", "find"]) {
    const value = search.elements[name].value.trim();
    if (value !== "") query.set(name, value);
  }
  if (before !== null) query.set("before", before);
  return query;
}

// Request JSON. Returns undefined if there is no such thing, and null after another error.
async function requestJson(path) {
  const response = await request(path).catch(() => null); // the verdict says that Atlas does not respond
  if (response?.status === 404) return undefined;
  if (!response?.ok) {
    if (response !== null) showMessage(await readError(response));
    return null;
  }
  canReplay = response.headers.get("Atlas-Page-Can-Replay") === "yes";
  return response.json();
}

async function loadList() {
  const query = buildQuery();
  const listing = await requestJson(`/exports?${query}`);
  // the search may have changed meanwhile
  if (listing && query.toString() === buildQuery().toString()) showList(listing);
}

function showList(listing) {
  listings += 1;
  shown = new Map(listing.entries.map((entry) => [entry.receipt.id, entry]));
  const table = $("exports");
  table.tBodies[0].replaceChildren(...listing.entries.map(buildRow));
  const isEmpty = listing.entries.length === 0;
  const isFiltered = buildQuery().has("status") || buildQuery().has("find") || before !== null;
  table.hidden = isEmpty;
  $("no-exports").hidden = !isEmpty;
  $("no-exports").replaceChildren(
    ...(isFiltered
      ? ["No export matches. Enter at least the first four characters of a receipt, or a complete user or correlation id."]
      : ["No export yet. From a terminal: ", el("code", {}, "atlas send FILE.ndjson")]),
  );
  $("search-limit").hidden = listing.looked_at === null;
  setText($("search-limit"), `Only ${count(listing.looked_at ?? 0)} exports were searched. “Older” searches the next ones.`);
  drawTotals(listing.totals);
  drawNewer("");
  older = listing.before;
  $("older").disabled = older === null;
  $("newest").disabled = before === null;
}

function drawTotals(totals) {
  const parts = Object.entries(totals).map(([name, number]) => `${count(number)} ${STATUSES[name] ?? name}`);
  setText($("totals"), parts.join(", "));
}

// The button keeps its space while there is nothing to show, so that the list does not move.
function drawNewer(number) {
  $("newer").disabled = number === "";
  setText($("newer"), number === "" ? "" : `${number} newer, show`);
}

function buildRow({ receipt, user, bytes: size, tries, isolation, reason }) {
  const id = el("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, receipt.id.slice(0, 12));
  id.onclick = () => openExport(receipt.id);
  const cell = (kind, ...content) => el("td", { class: kind }, ...content);
  return el(
    "tr", { "data-id": receipt.id },
    el("th", { scope: "row" }, id), cell("", ...buildState(receipt.status, isolation, reason)),
    cell("", moment(receipt.at)), cell("number", count(receipt.ingested)), cell("number wide", count(receipt.rejected)),
    cell("number wide", bytes(size)), cell("number wide", count(tries)), cell("wide rid", user),
  );
}

const findRow = (id) => document.querySelector(`#exports tr[data-id="${CSS.escape(id ?? "")}"]`);

// Update what can change in a row, in place. The button stays, so that it keeps the focus.
function updateRow(entry) {
  const row = findRow(entry.receipt.id);
  if (row === null || JSON.stringify(entry) === JSON.stringify(shown.get(entry.receipt.id))) return;
  shown.set(entry.receipt.id, entry);
  const latest = buildRow(entry);
  for (const index of [1, 6]) row.cells[index].replaceChildren(...latest.cells[index].childNodes);
}

// Request an export, and update its row. Returns undefined if it was erased, null without an answer.
async function requestEntry(id) {
  const entry = await requestJson(`/exports/${encodeURIComponent(id)}`);
  const last = shown.get(id);
  if (entry) updateRow(entry);
  else if (entry === undefined && last) updateRow({ ...last, receipt: { ...last.receipt, status: "gone" } });
  return entry;
}

// Update the statuses of the list, and count the exports that are newer.
async function refreshList() {
  const listing = listings;
  const updated = await countNewer(listing);
  for (const [id, { receipt }] of shown) {
    if (listing !== listings) return;
    if (!updated.has(id) && MAY_CHANGE.includes(receipt.status)) await requestEntry(id);
  }
}

// Returns the ids of the rows that are up to date, because they are among the latest exports.
async function countNewer(listing) {
  const query = buildQuery();
  if (query.has("find") || before !== null) return new Set(); // a search may read thousands of exports
  query.set("limit", NEWER_MAX);
  const page = await requestJson(`/exports?${query}`);
  if (!page || listing !== listings) return new Set();
  const isShown = ({ receipt }) => shown.has(receipt.id);
  const newer = page.entries.slice(0, page.entries.findLastIndex(isShown)).filter((each) => !isShown(each));
  const isCut = !page.entries.some(isShown);
  const number = isCut ? page.entries.length : newer.length;
  drawNewer(number === 0 ? "" : `${count(number)}${isCut && page.before !== null ? "+" : ""}`);
  drawTotals(page.totals);
  page.entries.filter(isShown).forEach(updateRow);
  return new Set(page.entries.map(({ receipt }) => receipt.id));
}

// An export that has failed is still accepted. How it is retried says the rest of the line, and
// why a tooltip.
function buildState(status, isolation, reason) {
  if (!(isolation in ISOLATION)) return [buildStatus(status)];
  const text = `retried ${ISOLATION[isolation]}`;
  return [buildStatus("failed"), " ", el("small", { class: "failure", title: `${text}: ${reason ?? ""}` }, text)];
}

const buildStatus = (name) => el("span", { class: "status", "data-status": name }, STATUSES[name] ?? name);

async function openExport(id) {
  const entry = await requestEntry(id);
  if (!entry) {
    return void showMessage(`${id.slice(0, 12)}: ${entry === null ? "no answer." : "it was erased."}`);
  }
  showMessage("");
  const { receipt } = entry;
  openId = receipt.id;
  const facts = {
    Receipt: receipt.id,
    Status: buildStatus(receipt.status),
    Reason: entry.reason,
    Retried: ISOLATION[entry.isolation] ?? "",
    Accepted: receipt.at,
    User: entry.user,
    "Correlation id": entry.correlation_id,
    Rows: count(receipt.ingested),
    "Lines rejected": count(receipt.rejected),
    Bytes: `${count(entry.bytes)} as NDJSON`,
    Tries: count(entry.tries),
    "File in the dataset": receipt.path,
    Transaction: receipt.transaction,
    Foundry: receipt.transaction && datasetUrl ? link("Open the dataset, which lists its transactions", datasetUrl) : "",
  };
  const known = Object.entries(facts).filter(([, value]) => value !== null && value !== "");
  $("entry").replaceChildren(...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  $("entry-rejects").hidden = receipt.rejects.length === 0;
  $("entry-rejects").tBodies[0].replaceChildren(
    ...receipt.rejects.map(({ line, reason }) =>
      el("tr", {}, el("td", { class: "number" }, count(line)), el("td", {}, reason)),
    ),
  );
  $("replay").hidden = receipt.status !== "set_aside";
  offerReplay(receipt.id);
  if (!dialog.open) dialog.showModal();
}

function buildButton(text, onClick, kind = "") {
  const button = el("button", { type: "button", class: kind }, text);
  button.onclick = onClick;
  return button;
}

function offerReplay(id) {
  const offer = canReplay
    ? [buildButton("Send again", () => confirmReplay(id))]
    : [
        el("p", {}, "To send it again, for example after a fix, use a terminal where Atlas runs. The page can do it if the listener has a token."),
        el("p", {}, el("code", {}, `atlas exports replay ${id.slice(0, 12)}`)),
      ];
  $("replay").replaceChildren(...offer);
}

function confirmReplay(id) {
  const yes = buildButton("Yes, send it again", () => replay(id), "first");
  const no = buildButton("No", () => {
    offerReplay(id);
    $("replay").querySelector("button").focus();
  });
  $("replay").replaceChildren(
    el("p", { id: "confirmation" }, "It is processed again. If the cause is not fixed, it is set aside again."),
    el("p", { class: "buttons" }, yes, no),
  );
  yes.setAttribute("aria-describedby", "confirmation");
  yes.focus();
}

async function replay(id) {
  for (const button of $("replay").querySelectorAll("button")) button.disabled = true;
  let result;
  try {
    const response = await request(`/exports/${encodeURIComponent(id)}/replay`, { method: "POST" });
    result = response.ok ? describeReplay(await response.json()) : await readError(response);
  } catch {
    result = "Atlas does not respond. The status will show whether it was sent again.";
  }
  dialog.close();
  showMessage(`${id.slice(0, 12)}: ${result}`);
  requestEntry(id);
}

function describeReplay({ again, failed }) {
  if (again > 0) return "sent again.";
  return failed > 0 ? "failed again, and stays set aside." : "is no longer set aside.";
}

dialog.onclose = () => (findRow(openId)?.querySelector("button") ?? $("exports-title")).focus({ preventScroll: true });
$("close").onclick = () => dialog.close();

search.onsubmit = (event) => {
  event.preventDefault();
  before = null;
  loadList();
};
search.elements.status.onchange = () => search.requestSubmit();

export function showExports(status) {
  search.elements.status.value = status;
  search.elements.find.value = "";
  search.requestSubmit();
  $("exports-title").scrollIntoView();
  search.elements.status.focus({ preventScroll: true });
}

// Show another page. A button that becomes disabled passes the keyboard focus to the other one.
async function showPage(cursor, otherButton) {
  before = cursor;
  await loadList();
  if (document.activeElement?.disabled !== false) otherButton.focus();
}

$("older").onclick = () => showPage(older, $("newest"));
$("newest").onclick = () => showPage(null, $("older"));

$("newer").onclick = async () => {
  await loadList();
  $("exports").querySelector("tbody button")?.focus({ preventScroll: true });
};

// Update the list when the counts have changed. An empty list has no rows that could move.
export function refreshExports({ counts, dataset_url, journal }) {
  datasetUrl = dataset_url;
  const { accepted, replayed, committed, set_aside } = counts;
  const latest = [accepted, replayed, committed, set_aside, ...Object.values(journal)].join();
  if (latest === shownCounts || timer !== null) return;
  timer = setTimeout(() => (timer = null), REFRESH_SECONDS * 1000);
  shownCounts = latest;
  if (shown.size > 0) refreshList();
  else if (!buildQuery().has("find")) loadList();
}
