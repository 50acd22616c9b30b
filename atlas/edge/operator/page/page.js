// The live status: receives it from the listener each second, and draws it.

import { readError, readEvents, request } from "/api.js";
import { $, bytes, count, drawBars, drawLine, el, meter, moment, rate, seconds, setMeter, setText } from "/drawing.js";
import { refreshExports, showExports } from "/exports.js";

const COMMITS_MAX = 1000;
const LATEST = 6; // commits in the table
const RATE_SECONDS = 5;
const STALE_SECONDS = 4;
const SILENT_SECONDS = 15; // after this the connection counts as lost
const WAIT_SECONDS_MAX = 10;

let status = null;
let receivedAt = 0;
let isConnected = false;
let connectionError = "";
let samples = []; // [epoch seconds, number handled by each box]
const boxes = [];

// The boxes of the flow, in the order of the data.
function listBoxes({ counts, stages }) {
  return [
    { name: "edge", handled: counts.requests, note: `${count(counts.refused)} refused` },
    ...stages.map((stage) => ({ ...stage, note: `${count(stage.queue)} of ${count(stage.size)} waiting` })),
    { name: "Foundry", handled: counts.foundry_calls, note: `${count(counts.foundry_retries)} retried` },
  ];
}

const COUNTS = {
  requests: "requests", refused: "refused", accepted: "accepted", replayed: "sent again",
  committed: "committed", set_aside: "set aside", rows: "rows", rejected: "lines rejected",
  bytes_in: "bytes in", bytes_out: "bytes out", foundry_calls: "Foundry calls",
  foundry_retries: "calls retried",
};

function addBox({ name, size }) {
  const parts = { rate: el("b"), level: meter(), note: el("span"), bad: el("span", { class: "bad" }) };
  parts.level.toggleAttribute("hidden", size === undefined);
  $("flow").append(
    el("li", { "data-stage": name }, el("h3", {}, name), parts.rate, parts.level, parts.note, parts.bad),
  );
  return parts;
}

function computeRates() {
  const [[from, before], [until, now]] = [samples[0], samples.at(-1)];
  return now.map((number, index) => (until > from ? Math.max(0, number - before[index]) / (until - from) : 0));
}

function drawFlow(status) {
  const rates = computeRates();
  listBoxes(status).forEach((box, index) => {
    boxes[index] ??= addBox(box);
    const parts = boxes[index];
    setText(parts.rate, `${rate(rates[index])}/s`);
    setMeter(parts.level, box.size ? box.queue / box.size : 0);
    setText(parts.note, box.note);
    setText(parts.bad, box.crashes ? `${count(box.crashes)} crashed` : "");
  });
}

function drawJournal({ at, commits, foundry, history, journal }) {
  const until = Date.parse(at) / 1000;
  const points = (name) => [...history.map((each) => [each.at, each[name]]), [until, journal[name]]];
  drawLine($("waiting"), points("exports"), until, count, "Waiting exports");
  drawLine($("oldest"), points("oldest_seconds"), until, seconds, "Age of the oldest waiting export");
  drawBars($("timeline"), commits, until);
  setText(
    $("journal"),
    `${count(journal.exports)} of ${count(journal.exports_max)} exports waiting, ` +
      `${bytes(journal.bytes)} of ${bytes(journal.bytes_max)}; ${count(journal.set_aside)} set aside; ` +
      (journal.free_bytes === null ? "in memory only" : `${bytes(journal.free_bytes)} free on the disk`),
  );
  const last = foundry.last_commit_at ? moment(foundry.last_commit_at) : "none since the start";
  const age = journal.exports > 0 ? `The oldest has waited ${seconds(journal.oldest_seconds)}` : "Nothing is waiting";
  $("foundry").replaceChildren(`${age}; last commit: `, last);
}

function drawCommits({ commits }) {
  const latest = commits.slice(-LATEST).reverse();
  $("commits").hidden = latest.length === 0;
  $("no-commits").hidden = latest.length > 0;
  const number = (text, kind = "") => el("td", { class: `number ${kind}` }, text);
  const rows = latest.map((commit) =>
    el(
      "tr", {},
      el("td", {}, moment(commit.at)), number(count(commit.exports)), number(count(commit.rows)),
      number(bytes(commit.bytes), "wide"), number(seconds(commit.seconds)), el("td", {}, commit.trigger),
      el("td", { class: "wide rid" }, commit.transaction),
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
    setText(value, name.startsWith("bytes") ? bytes(counts[name]) : count(counts[name]));
  }
}

function drawReasons(id, numbers) {
  const sorted = Object.entries(numbers).sort((one, other) => other[1] - one[1]);
  $(id).hidden = sorted.length === 0;
  $(`no-${id}`).hidden = sorted.length > 0;
  const rows = sorted.map(([name, number]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number" }, count(number))),
  );
  $(id).tBodies[0].replaceChildren(...rows);
}

function drawAlarms({ foundry, is_draining, journal }) {
  const alarms = [];
  if (is_draining) alarms.push("Atlas is shutting down: it accepts no new exports, and finishes those in progress.");
  const fresh = journal.exports - journal.failed; // failed exports are retried apart from these
  if (foundry.paused_reason !== null && (fresh > 0 || journal.failed === 0)) {
    const since = foundry.paused_at ? ` since ${foundry.paused_at}` : "";
    const reason = foundry.paused_reason.replace(/[.]$/, "");
    alarms.push(`Uploads to Foundry are paused${since}: ${reason}. Exports are still accepted; Atlas keeps trying.`);
  }
  if (journal.exports >= journal.exports_max || journal.bytes >= journal.bytes_max) {
    alarms.push("The journal is full: exports are refused until some are uploaded to Foundry.");
  }
  const shown = [...$("alarms").children].map((each) => each.textContent);
  if (shown.join() !== alarms.join()) $("alarms").replaceChildren(...alarms.map((text) => el("p", {}, text)));
}

function drawSetAside({ set_aside }) {
  $("set-aside").hidden = set_aside === 0;
  const are = set_aside === 1 ? "export is" : "exports are";
  setText($("set-aside-count"), `${count(set_aside)} ${are} set aside: neither lost nor in the dataset.`);
}

function drawFailed({ failed, failed_reason }) {
  $("failed").hidden = failed === 0;
  const are = failed === 1 ? "export failed and is" : "exports failed and are";
  const reason = failed_reason === null ? "." : `. The last error: ${failed_reason}`;
  setText($("failed-count"), `${count(failed)} ${are} retried alone or in small groups${reason}`);
}

function draw() {
  if (status === null) return;
  const since = status.started.slice(0, 16).replace("T", " ");
  const service = [status.dataset, status.branch, `Atlas ${status.version}`, `since ${since}`];
  if ($("service").textContent !== service.join("")) {
    $("service").replaceChildren(...service.map((text) => el("span", {}, text)));
  }
  drawAlarms(status);
  drawFailed(status.journal);
  drawSetAside(status.journal);
  drawFlow(status);
  drawJournal(status);
  drawCommits(status);
  drawCounts(status);
  drawReasons("rejects", status.rejects);
  drawReasons("refusals", status.refusals);
}

// The first message of a connection is complete; later ones have only the new items of the lists.
function receive(message, isFirst) {
  const { commits, history } = isFirst || status === null ? { commits: [], history: [] } : status;
  const at = Date.parse(message.at) / 1000;
  if (isFirst) samples = [];
  status = {
    ...message,
    commits: [...commits, ...message.commits].slice(-COMMITS_MAX),
    history: [...history, ...message.history].filter((each) => each.at > at - 3600),
  };
  samples.push([at, listBoxes(status).map((box) => box.handled)]);
  samples = samples.filter(([time]) => time >= at - RATE_SECONDS - 0.5);
  receivedAt = performance.now();
  draw();
  refreshExports(status.counts, status.journal);
}

// Receive the status until the connection ends. Returns an error message, or "".
async function receiveStream(onData, signal) {
  const response = await request("/status/stream", { signal });
  if (!response.ok) return readError(response);
  let isFirst = true;
  for await (const text of readEvents(response, onData)) {
    isConnected = true;
    receive(JSON.parse(text), isFirst);
    isFirst = false;
    drawConnection();
  }
  return "";
}

async function keepReceiving() {
  let wait = 0.5;
  for (;;) {
    const silence = new AbortController();
    let timer = 0;
    const onData = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_SECONDS * 1000);
      wait = 0.5;
    };
    const error = await receiveStream(onData, silence.signal).catch(() => "");
    clearTimeout(timer);
    isConnected = false;
    connectionError = error || (status?.is_draining ? "Atlas has shut down" : "Atlas does not respond; reconnecting");
    drawConnection();
    await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2) * 1000));
    wait = Math.min(WAIT_SECONDS_MAX, wait * 2);
  }
}

function drawConnection() {
  const ago = (performance.now() - receivedAt) / 1000;
  let [state, text] = ["live", "Live"];
  if (!isConnected) [state, text] = connectionError === "" ? ["new", "Connecting"] : ["gone", connectionError];
  else if (ago > STALE_SECONDS) [state, text] = ["stale", "Stale"];
  else if (status.is_draining) [state, text] = ["stale", "Shutting down"];
  $("connection").dataset.state = state;
  document.body.classList.toggle("old", state === "gone" || state === "stale");
  setText($("connection-state"), text);
  const isOld = status !== null && (!isConnected || ago > STALE_SECONDS);
  setText($("connection-age"), isOld ? `last update ${seconds(Math.floor(ago))} ago` : "");
}

setInterval(drawConnection, 1000);
addEventListener("resize", draw);
$("set-aside-show").onclick = () => showExports("set_aside");
$("failed-show").onclick = () => showExports("failed");
keepReceiving();
