// The list of exports: finding one, looking at it, sending it again.

import { ask, refusal } from "/asking.js";
import { $, bytes, count, el, moment, tell } from "/drawing.js";

const LIMIT = 25;
const PAUSE_SECONDS = 2; // between two looks at a list that changes
const STATUSES = { set_aside: "set aside" };
const TRIED = { own_file: "in a file of its own", small_group: "in a small group", alone: "alone" };

let before = null; // where the page that is shown begins
let older = null; // and where the next one would
let mayOrder = false;
let known = ""; // the counts when the list was read
let timer = null;
let opened = null; // the export in the dialog

const sought = $("sought");
const dialog = $("ledger");

function query() {
  const asked = new URLSearchParams({ limit: LIMIT });
  for (const name of ["status", "find"]) {
    const value = sought.elements[name].value.trim();
    if (value !== "") asked.set(name, value);
  }
  if (before !== null) asked.set("before", before);
  return asked;
}

async function list() {
  const asked = query();
  let answer;
  try {
    answer = await ask(`/exports?${asked}`);
  } catch {
    return; // the header says that Atlas is gone
  }
  if (asked.toString() !== query().toString()) return; // somebody has asked for others meanwhile
  if (!answer.ok) return void tell($("told"), await refusal(answer));
  mayOrder = answer.headers.get("Atlas-Page-May-Order") === "yes";
  show(await answer.json());
}

function show(listing) {
  const held = document.activeElement?.closest("#exports tr")?.dataset.id;
  const table = $("exports");
  table.tBodies[0].replaceChildren(...listing.entries.map(row));
  if (held) table.querySelector(`tr[data-id="${CSS.escape(held)}"] button`)?.focus();
  const none = listing.entries.length === 0;
  const isAll = !query().has("status") && !query().has("find") && before === null;
  table.hidden = none;
  $("no-exports").hidden = !none;
  $("no-exports").replaceChildren(
    ...(isAll
      ? ["No export yet. From a terminal: ", el("code", {}, "atlas send FILE.ndjson")]
      : ["No export is like that. An id is found by its first four characters or more, a user and a correlation id by the whole."]),
  );
  $("looked").hidden = listing.looked_at === null;
  tell($("looked"), `Looked for it in ${count(listing.looked_at ?? 0)} exports and no further: “Older” goes on.`);
  const totals = Object.entries(listing.totals);
  tell($("totals"), totals.map(([name, number]) => `${count(number)} ${STATUSES[name] ?? name}`).join(", "));
  older = listing.before;
  $("older").disabled = older === null;
  $("newest").disabled = before === null;
}

function row({ receipt, user, bytes: size, tries, isolation, reason }) {
  const id = el("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, receipt.id.slice(0, 12));
  id.onclick = () => open(receipt.id);
  const number = (text, kind = "") => el("td", { class: `number ${kind}` }, text);
  return el(
    "tr", { "data-id": receipt.id },
    el("th", { scope: "row" }, id), el("td", {}, status(receipt.status), failure(isolation, reason)), el("td", {}, moment(receipt.at)),
    number(count(receipt.ingested)), number(count(receipt.rejected), "wide"),
    number(bytes(size), "wide"), number(count(tries), "wide"), el("td", { class: "wide rid" }, user),
  );
}

// How an export is tried that has failed and waits, and why: the reason is long, so it is a title.
function failure(isolation, reason) {
  return isolation in TRIED ? el("small", { class: "failure", title: reason ?? "" }, `failed, tried ${TRIED[isolation]}`) : "";
}

const status = (name) => el("span", { class: "status", "data-status": name }, STATUSES[name] ?? name);

async function open(id) {
  const answer = await ask(`/exports/${encodeURIComponent(id)}`).catch(() => null);
  if (!answer?.ok) return void tell($("told"), answer ? await refusal(answer) : "Atlas does not answer.");
  const entry = await answer.json();
  const { receipt } = entry;
  opened = receipt.id;
  const facts = {
    Receipt: receipt.id,
    Status: status(receipt.status),
    Why: entry.reason,
    Tried: TRIED[entry.isolation] ?? "",
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
  const told = Object.entries(facts).filter(([, value]) => value !== null && value !== "");
  $("entry").replaceChildren(...told.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  $("entry-rejects").hidden = receipt.rejects.length === 0;
  $("entry-rejects").tBodies[0].replaceChildren(
    ...receipt.rejects.map((each) =>
      el("tr", {}, el("td", { class: "number" }, count(each.line)), el("td", {}, each.reason)),
    ),
  );
  $("replaying").hidden = receipt.status !== "set_aside";
  offerReplay(receipt.id);
  if (!dialog.open) dialog.showModal();
}

function button(text, act, kind = "") {
  const made = el("button", { type: "button", class: kind }, text);
  made.onclick = act;
  return made;
}

function offerReplay(id) {
  const again = mayOrder
    ? [button("Send again", () => confirmReplay(id))]
    : [
        el("p", {}, "To send it again, as after a fix, from a terminal (the page may do it when the listener has a token):"),
        el("p", {}, el("code", {}, `atlas exports replay ${id.slice(0, 12)}`)),
      ];
  $("replaying").replaceChildren(...again);
}

function confirmReplay(id) {
  const yes = button("Yes, send it again", () => replay(id), "first");
  const no = button("No", () => {
    offerReplay(id);
    $("replaying").querySelector("button").focus();
  });
  $("replaying").replaceChildren(
    el("p", { id: "sure" }, "It goes through the flow once more. If what was wrong is not mended, it is set aside again."),
    el("p", { class: "buttons" }, yes, no),
  );
  yes.setAttribute("aria-describedby", "sure");
  yes.focus();
}

async function replay(id) {
  for (const each of $("replaying").querySelectorAll("button")) each.disabled = true;
  let told;
  try {
    const answer = await ask(`/exports/${encodeURIComponent(id)}/replay`, { method: "POST" });
    told = answer.ok ? outcome(await answer.json()) : await refusal(answer);
  } catch {
    told = "Atlas does not answer. Whether it was sent again, its status will say.";
  }
  dialog.close();
  tell($("told"), `${id.slice(0, 12)}: ${told}`);
  list();
}

function outcome({ again, failed }) {
  if (again > 0) return "on its way again.";
  return failed > 0 ? "failed again, and stays set aside." : "it is not set aside any more.";
}

dialog.onclose = () => {
  const row = document.querySelector(`#exports tr[data-id="${CSS.escape(opened ?? "")}"] button`);
  (row ?? $("exports-title")).focus();
};
$("close").onclick = () => dialog.close();

sought.onsubmit = (event) => {
  event.preventDefault();
  before = null;
  list();
};
export function showExports(status) {
  sought.elements.status.value = status;
  sought.elements.find.value = "";
  sought.requestSubmit();
  $("exports-title").scrollIntoView();
  sought.elements.status.focus({ preventScroll: true });
}

sought.elements.status.onchange = () => sought.requestSubmit();
// Whoever uses the keyboard stays near: a button that can do no more hands on to the other.
async function leaf(to, other) {
  before = to;
  await list();
  if (document.activeElement?.disabled !== false) other.focus();
}

$("older").onclick = () => leaf(older, $("newest"));
$("newest").onclick = () => leaf(null, $("older"));

// The list is read again when something came or went, unless somebody has leafed in it.
export function heardOf({ accepted, replayed, committed, set_aside }, { failed, failed_reason }) {
  const now = [accepted, replayed, committed, set_aside, failed, failed_reason].join();
  if (now === known || before !== null || timer !== null) return;
  if (query().has("find")) return; // it may be sought in thousands: only when somebody says so
  timer = setTimeout(() => (timer = null), PAUSE_SECONDS * 1000);
  known = now;
  list();
}

