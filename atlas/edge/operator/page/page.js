// The live status: receives it from the listener each second, and draws it.

import { readError, readEvents, request } from "/api.js";
import {
  $, bytes, count, drawBars, drawLine, duration, el, link, meter, moment, percent, rate, seconds, setMeter, setText, shortCount,
} from "/drawing.js";
import { keepRows, refreshExports, showExports } from "/exports.js";
import { refreshPhones } from "/phones.js";
import { drawVerdict } from "/verdict.js";

const COMMITS_MAX = 1000;
const LATEST = 6; // commits in the table
const RATE_SECONDS = 5;
const STALE_SECONDS = 4; // without a connection; with one, the checks of readiness may take longer
const SLOW_SECONDS = 10;
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
    ...stages.map((stage) => ({ ...stage, note: `${shortCount(stage.queue)} of ${shortCount(stage.size)} waiting` })),
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

function drawReplicas({ replicas }) {
  $("replicas").hidden = replicas.length === 0;
  const rows = replicas.map(({ name, version, epoch, seen_at, is_this }) =>
    el(
      "tr", {},
      el("th", { scope: "row" }, name, ...(is_this ? [" ", el("strong", {}, "this one")] : [])),
      el("td", {}, version), el("td", {}, epoch === null ? "follows" : `leads (epoch ${count(epoch)})`),
      el("td", {}, moment(seen_at)),
    ),
  );
  $("replicas").querySelector("tbody").replaceChildren(...rows);
  const versions = new Set(replicas.map((each) => each.version)).size;
  setText($("versions"), versions > 1 ? `${versions} versions run side by side.` : "");
}

function describeSpace({ database_bytes, free_bytes }) {
  if (database_bytes !== null) return `${bytes(database_bytes)} in the database`;
  return free_bytes === null ? "in memory only" : `${bytes(free_bytes)} free on the disk`;
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
      describeSpace(journal),
  );
  const last = foundry.last_commit_at ? moment(foundry.last_commit_at) : "none since the start";
  const age = journal.exports > 0 ? `The oldest has waited ${seconds(journal.oldest_seconds)}` : "Nothing is waiting";
  const paused = foundry.paused_at ? ["; uploads paused since ", moment(foundry.paused_at)] : [];
  $("foundry").replaceChildren(`${age}; last commit: `, last, ...paused);
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

const CALLERS = { phones: "From phones", foundry: "To Foundry" };

function drawLatency({ latency }) {
  const number = (text) => el("td", { class: "number" }, text);
  const rows = Object.entries(CALLERS).map(([name, label]) => {
    const { calls, failed, p50_seconds, p99_seconds } = latency[name];
    const errors = failed === 0 ? "0" : `${count(failed)} (${percent(failed / calls)})`;
    return el(
      "tr", {},
      el("th", { scope: "row" }, label), number(count(calls)),
      number(duration(p50_seconds)), number(duration(p99_seconds)), number(errors),
    );
  });
  $("latency").tBodies[0].replaceChildren(...rows);
}

function drawService({ branch, dataset, dataset_url, started, version }) {
  const since = started.slice(0, 16).replace("T", " ");
  const facts = [dataset, branch, `Atlas ${version}`, `since ${since}`];
  if ($("service").textContent === facts.join("")) return;
  $("service").replaceChildren(...facts.map((text) => el("span", {}, text)));
  if (dataset_url !== null) $("service").firstChild.replaceChildren(link(dataset, dataset_url));
}

function draw() {
  if (status === null) return;
  drawService(status);
  drawFlow(status);
  drawLatency(status);
  drawReplicas(status);
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
  keepRows(drawConnection, draw);
  refreshExports(status);
  refreshPhones(status);
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
    connectionError = error || (status?.is_draining ? "Atlas has shut down." : "Atlas does not respond; reconnecting.");
    keepRows(drawConnection);
    await new Promise((resolve) => setTimeout(resolve, wait * (0.75 + Math.random() / 2) * 1000));
    wait = Math.min(WAIT_SECONDS_MAX, wait * 2);
  }
}

// The status is up to date if it is a few seconds old at most, also while reconnecting.
function drawConnection() {
  const seconds = (performance.now() - receivedAt) / 1000;
  const isLive = status !== null && seconds <= (isConnected ? SLOW_SECONDS : STALE_SECONDS);
  const isNew = status === null && connectionError === "";
  const [state, text] = isLive ? ["live", "Live"] : isNew ? ["new", "Connecting"] : ["gone", "Disconnected"];
  $("connection").dataset.state = state;
  setText($("connection-state"), text);
  document.body.classList.toggle("old", state === "gone");
  const reason = isConnected ? "Atlas sends nothing." : connectionError;
  drawVerdict(status, state === "gone" ? { seconds, reason } : null);
}

setInterval(() => keepRows(drawConnection), 1000);
addEventListener("resize", () => keepRows(draw));
$("set-aside-show").onclick = () => showExports("set_aside");
$("failed-show").onclick = () => showExports("failed");
keepReceiving();
