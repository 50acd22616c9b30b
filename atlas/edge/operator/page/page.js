// The live picture: what the listener tells every second, drawn where it belongs.

import { ask, messages, refusal } from "/asking.js";
import { $, bars, bytes, count, el, fill, line, meter, moment, rate, seconds, tell } from "/drawing.js";
import { heardOf, showExports } from "/exports.js";

const COMMITS_MAX = 1000;
const LATEST = 6; // commits in the table
const RATE_SECONDS = 5;
const STALE_SECONDS = 4;
const SILENT_SECONDS = 15; // then the connection is dead, whatever it says
const WAIT_SECONDS_MAX = 10;

let picture = null;
let heardAt = 0;
let isOpen = false;
let trouble = ""; // why there is nothing to be heard
let samples = []; // [epoch seconds, what each box had handled]
const boxes = [];

// What stands in the boxes of the flow, in the order of the data.
function flow({ counts, stages }) {
  return [
    { name: "edge", handled: counts.requests, note: `${count(counts.refused)} refused` },
    ...stages.map((each) => ({ ...each, note: `${count(each.queue)} of ${count(each.size)} wait` })),
    { name: "Foundry", handled: counts.foundry_calls, note: `${count(counts.foundry_retries)} tried again` },
  ];
}

const COUNTS = {
  requests: "requests", refused: "refused", accepted: "accepted", replayed: "sent again",
  committed: "committed", set_aside: "set aside", rows: "rows", rejected: "lines rejected",
  bytes_in: "bytes in", bytes_out: "bytes out", foundry_calls: "Foundry calls",
  foundry_retries: "tried again",
};

function box({ name, size }) {
  const parts = { rate: el("b"), level: meter(), note: el("span"), bad: el("span", { class: "bad" }) };
  parts.level.toggleAttribute("hidden", size === undefined);
  $("flow").append(
    el("li", { "data-stage": name }, el("h3", {}, name), parts.rate, parts.level, parts.note, parts.bad),
  );
  return parts;
}

function rates() {
  const [[from, before], [until, now]] = [samples[0], samples.at(-1)];
  return now.map((number, index) => (until > from ? Math.max(0, number - before[index]) / (until - from) : 0));
}

function drawFlow(p) {
  const now = rates();
  flow(p).forEach((each, index) => {
    boxes[index] ??= box(each);
    const { rate: speed, level, note, bad } = boxes[index];
    tell(speed, `${rate(now[index])}/s`);
    fill(level, each.size ? each.queue / each.size : 0);
    tell(note, each.note);
    tell(bad, each.crashes ? `${count(each.crashes)} crashed` : "");
  });
}

function drawJournal(p) {
  const { journal, foundry, history } = p;
  const until = Date.parse(p.at) / 1000;
  const over = (name) => [...history.map((each) => [each.at, each[name]]), [until, journal[name]]];
  line($("waiting"), over("exports"), until, count, "Exports that wait");
  line($("oldest"), over("oldest_seconds"), until, seconds, "Age of the oldest export that waits");
  bars($("timeline"), p.commits, until);
  tell(
    $("journal"),
    `${count(journal.exports)} of ${count(journal.exports_max)} exports wait, ` +
      `${bytes(journal.bytes)} of ${bytes(journal.bytes_max)}; ${count(journal.set_aside)} set aside; ` +
      (journal.free_bytes === null ? "in memory only" : `${bytes(journal.free_bytes)} free on the disk`),
  );
  const last = foundry.last_commit_at ? [moment(foundry.last_commit_at)] : ["none since the start"];
  const age = journal.exports > 0 ? `The oldest waits for ${seconds(journal.oldest_seconds)}; ` : "Nothing waits; ";
  $("foundry").replaceChildren(`${age}last commit: `, ...last);
}

function drawCommits({ commits }) {
  const latest = commits.slice(-LATEST).reverse();
  $("commits").hidden = latest.length === 0;
  $("no-commits").hidden = latest.length > 0;
  const number = (text, kind = "") => el("td", { class: `number ${kind}` }, text);
  const rows = latest.map((each) =>
    el(
      "tr", {},
      el("td", {}, moment(each.at)), number(count(each.exports)), number(count(each.rows)),
      number(bytes(each.bytes), "wide"), number(seconds(each.seconds)), el("td", {}, each.trigger),
      el("td", { class: "wide rid" }, each.transaction),
    ),
  );
  $("commits").tBodies[0].replaceChildren(...rows);
}

function drawCounts({ counts }) {
  const list = $("counts");
  for (const [name, label] of Object.entries(COUNTS)) {
    let value = list.querySelector(`[data-count=${name}]`);
    if (value === null) {
      value = el("dd", { "data-count": name });
      list.append(el("div", {}, el("dt", {}, label), value));
    }
    tell(value, name.startsWith("bytes") ? bytes(counts[name]) : count(counts[name]));
  }
}

function drawReasons(id, found) {
  const sorted = Object.entries(found).sort((one, other) => other[1] - one[1]);
  $(id).hidden = sorted.length === 0;
  $(`no-${id}`).hidden = sorted.length > 0;
  const rows = sorted.map(([name, number]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number" }, count(number))),
  );
  $(id).tBodies[0].replaceChildren(...rows);
}

function drawAlarms({ foundry, is_draining, journal }) {
  const found = [];
  if (is_draining) found.push("Atlas drains: it takes nothing new, and ends when what is under way is settled.");
  const fresh = journal.exports - journal.failed; // the others are tried apart, whatever Foundry takes
  if (foundry.paused_reason !== null && (fresh > 0 || journal.failed === 0)) {
    const since = foundry.paused_at ? ` since ${foundry.paused_at}` : "";
    const reason = foundry.paused_reason.replace(/[.]$/, "");
    found.push(`Nothing goes to Foundry${since}: ${reason}. Exports are still accepted; Atlas goes on trying.`);
  }
  if (journal.exports >= journal.exports_max || journal.bytes >= journal.bytes_max) {
    found.push("The journal is full: exports are refused until Foundry has taken some.");
  }
  const shown = [...$("alarms").children].map((each) => each.textContent);
  if (shown.join() !== found.join()) $("alarms").replaceChildren(...found.map((text) => el("p", {}, text)));
  drawFailed(journal);
  $("aside").hidden = journal.set_aside === 0;
  tell($("aside-count"), `${count(journal.set_aside)} ${journal.set_aside === 1 ? "export is" : "exports are"} set aside: neither lost nor in the dataset.`);
}

function drawFailed({ failed, failed_reason }) {
  $("failed").hidden = failed === 0;
  const are = failed === 1 ? "export failed and is" : "exports failed and are";
  const reason = failed_reason === null ? "." : `. The last time: ${failed_reason}`;
  tell($("failed-count"), `${count(failed)} ${are} tried alone, or with few others${reason}`);
}

function draw() {
  if (picture === null) return;
  const since = picture.started.slice(0, 16).replace("T", " ");
  const which = [picture.dataset, picture.branch, `Atlas ${picture.version}`, `since ${since}`];
  if ($("which").textContent !== which.join("")) $("which").replaceChildren(...which.map((text) => el("span", {}, text)));
  drawAlarms(picture);
  drawFlow(picture);
  drawJournal(picture);
  drawCommits(picture);
  drawCounts(picture);
  drawReasons("rejects", picture.rejects);
  drawReasons("refusals", picture.refusals);
}

// The first message of a connection is whole; each later one has only what is new of the lists.
function hear(message, isFirst) {
  const { commits, history } = isFirst || picture === null ? { commits: [], history: [] } : picture;
  const at = Date.parse(message.at) / 1000;
  if (isFirst) samples = [];
  picture = {
    ...message,
    commits: [...commits, ...message.commits].slice(-COMMITS_MAX),
    history: [...history, ...message.history].filter((each) => each.at > at - 3600),
  };
  samples.push([at, flow(picture).map((each) => each.handled)]);
  samples = samples.filter(([when]) => when >= at - RATE_SECONDS - 0.5);
  heardAt = performance.now();
  draw();
  heardOf(picture.counts, picture.journal);
}

async function follow(stir, signal) {
  const answer = await ask("/status/stream", { signal });
  if (!answer.ok) return refusal(answer);
  let isFirst = true;
  for await (const text of messages(answer, stir)) {
    isOpen = true;
    hear(JSON.parse(text), isFirst);
    isFirst = false;
    tellHeard();
  }
  return "";
}

async function followForEver() {
  let wait = 0.5;
  for (;;) {
    const silence = new AbortController();
    let timer = 0;
    const stir = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_SECONDS * 1000);
      wait = 0.5;
    };
    const told = await follow(stir, silence.signal).catch(() => "");
    clearTimeout(timer);
    isOpen = false;
    trouble = told || (picture?.is_draining ? "Atlas has drained and is gone" : "Atlas is gone; trying again");
    tellHeard();
    await new Promise((go) => setTimeout(go, wait * (0.75 + Math.random() / 2) * 1000));
    wait = Math.min(WAIT_SECONDS_MAX, wait * 2);
  }
}

function tellHeard() {
  const ago = (performance.now() - heardAt) / 1000;
  let [state, text] = ["live", "Live"];
  if (!isOpen) [state, text] = trouble === "" ? ["new", "Listening"] : ["gone", trouble];
  else if (ago > STALE_SECONDS) [state, text] = ["stale", "Stale"];
  else if (picture.is_draining) [state, text] = ["stale", "Draining"];
  $("heard").dataset.state = state;
  document.body.classList.toggle("old", state === "gone" || state === "stale");
  tell($("heard-state"), text);
  tell($("heard-ago"), picture !== null && (!isOpen || ago > STALE_SECONDS) ? `last heard ${seconds(Math.floor(ago))} ago` : "");
}

setInterval(tellHeard, 1000);
addEventListener("resize", draw);
$("aside-show").onclick = () => showExports("set_aside");
$("failed-show").onclick = () => showExports("failed");
followForEver();
