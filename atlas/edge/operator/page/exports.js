// The list of exports: search, details, replay.

import { readError, request } from "/api.js";
import { $, bytes, count, el, moment, setText } from "/drawing.js";

const LIMIT = 25;
const REFRESH_SECONDS = 2; // between two refreshes of a list that changes
const STATUSES = { set_aside: "set aside" };
const ISOLATION = { own_file: "in a file of its own", small_group: "in a small group", alone: "alone" };

let before = null; // the cursor of the page that is shown
let older = null; // and of the next one
let canReplay = false;
let shownCounts = ""; // the counts when the list was read
let timer = null;
let openId = null; // the export in the dialog

const search = $("search");
const dialog = $("export");

function buildQuery() {
  const query = new URLSearchParams({ limit: LIMIT });
  for (const name of ["status", "find"]) {
    const value = search.elements[name].value.trim();
    if (value !== "") query.set(name, value);
  }
  if (before !== null) query.set("before", before);
  return query;
}

async function loadList() {
  const query = buildQuery();
  let response;
  try {
    response = await request(`/exports?${query}`);
  } catch {
    return; // the header shows that Atlas does not respond
  }
  if (query.toString() !== buildQuery().toString()) return; // the search has changed meanwhile
  if (!response.ok) return void setText($("message"), await readError(response));
  canReplay = response.headers.get("Atlas-Page-Can-Replay") === "yes";
  showList(await response.json());
}

function showList(listing) {
  const focused = document.activeElement?.closest("#exports tr")?.dataset.id;
  const table = $("exports");
  table.tBodies[0].replaceChildren(...listing.entries.map(buildRow));
  if (focused) table.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus();
  const isEmpty = listing.entries.length === 0;
  const isFiltered = buildQuery().has("status") || buildQuery().has("find") || before !== null;
  table.hidden = isEmpty;
  $("no-exports").hidden = !isEmpty;
  $("no-exports").replaceChildren(
    ...(isFiltered
      ? ["No export matches. Enter at least the first four characters of an id, or a complete user or correlation id."]
      : ["No export yet. From a terminal: ", el("code", {}, "atlas send FILE.ndjson")]),
  );
  $("search-limit").hidden = listing.looked_at === null;
  setText($("search-limit"), `Only ${count(listing.looked_at ?? 0)} exports were searched. “Older” searches the next ones.`);
  const totals = Object.entries(listing.totals);
  setText($("totals"), totals.map(([name, number]) => `${count(number)} ${STATUSES[name] ?? name}`).join(", "));
  older = listing.before;
  $("older").disabled = older === null;
  $("newest").disabled = before === null;
}

function buildRow({ receipt, user, bytes: size, tries, isolation, reason }) {
  const id = el("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, receipt.id.slice(0, 12));
  id.onclick = () => openExport(receipt.id);
  const number = (text, kind = "") => el("td", { class: `number ${kind}` }, text);
  return el(
    "tr", { "data-id": receipt.id },
    el("th", { scope: "row" }, id), el("td", {}, buildStatus(receipt.status), buildFailure(isolation, reason)),
    el("td", {}, moment(receipt.at)), number(count(receipt.ingested)), number(count(receipt.rejected), "wide"),
    number(bytes(size), "wide"), number(count(tries), "wide"), el("td", { class: "wide rid" }, user),
  );
}

// How a failed export is retried. The reason is long, so it is a tooltip.
function buildFailure(isolation, reason) {
  return isolation in ISOLATION
    ? el("small", { class: "failure", title: reason ?? "" }, `failed, retried ${ISOLATION[isolation]}`)
    : "";
}

const buildStatus = (name) => el("span", { class: "status", "data-status": name }, STATUSES[name] ?? name);

async function openExport(id) {
  const response = await request(`/exports/${encodeURIComponent(id)}`).catch(() => null);
  if (!response?.ok) {
    return void setText($("message"), response ? await readError(response) : "Atlas does not respond.");
  }
  const entry = await response.json();
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
    File: receipt.path,
    Transaction: receipt.transaction,
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
        el("p", {}, "To send it again, for example after a fix, use a terminal. The page can do it if the listener has a token."),
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
  setText($("message"), `${id.slice(0, 12)}: ${result}`);
  loadList();
}

function describeReplay({ again, failed }) {
  if (again > 0) return "sent again.";
  return failed > 0 ? "failed again, and stays set aside." : "is no longer set aside.";
}

dialog.onclose = () => {
  const row = document.querySelector(`#exports tr[data-id="${CSS.escape(openId ?? "")}"] button`);
  (row ?? $("exports-title")).focus();
};
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

// Refresh the list when the counts have changed, unless an older page or a search is shown.
export function refreshExports({ accepted, replayed, committed, set_aside }, { failed, failed_reason }) {
  const counts = [accepted, replayed, committed, set_aside, failed, failed_reason].join();
  if (counts === shownCounts || before !== null || timer !== null) return;
  if (buildQuery().has("find")) return; // a search may read thousands of exports
  timer = setTimeout(() => (timer = null), REFRESH_SECONDS * 1000);
  shownCounts = counts;
  loadList();
}
