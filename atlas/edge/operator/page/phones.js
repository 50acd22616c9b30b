// The phones: how many there are, and those that have stopped sending. Read again when counts change.

import { readError, request } from "/api.js";
import { $, count, duration, el, setText } from "/drawing.js";

const SHOWN_MAX = 10;
const DAY_SECONDS = 86_400;
const SEEN_DAYS = 30;

let shown = ""; // the counts that the table belongs to
let isReading = false;

async function readPhones(query) {
  const response = await request(`/phones?${new URLSearchParams(query)}`);
  if (!response.ok) throw new Error(await readError(response));
  return response.json();
}

function buildRow({ user, device, last_export_at: at, samples, report }) {
  const latest = Object.values(samples).sort().at(-1) ?? "";
  const silent = at === null ? "never" : duration((Date.now() - Date.parse(at)) / 1000);
  return el(
    "tr", {},
    el("th", { scope: "row" }, user), el("td", {}, device), el("td", { class: "number" }, silent),
    el("td", {}, latest.slice(0, 10)), el("td", {}, report?.error?.code ?? report?.event ?? ""),
  );
}

async function readQuiet() {
  const { quiet_days } = await readPhones({ limit: 1 });
  const { phones } = await readPhones({
    limit: SHOWN_MAX, quiet_seconds: quiet_days * DAY_SECONDS, seen_seconds: SEEN_DAYS * DAY_SECONDS,
  });
  setText($("quiet-command"), `atlas phones --quiet ${quiet_days}d`);
  $("phones").hidden = phones.length === 0;
  $("phones").tBodies[0].replaceChildren(...phones.map(buildRow));
}

export function refreshPhones({ phones: { active, quiet, stuck } }) {
  setText($("phones-totals"), `${count(active + quiet + stuck)}, ${count(quiet)} quiet, ${count(stuck)} stuck`);
  const counts = [active, quiet, stuck].join();
  if (counts === shown || isReading) return;
  isReading = true;
  readQuiet()
    .then(() => { shown = counts; setText($("phones-message"), ""); })
    .catch((error) => { setText($("phones-message"), error.message); })
    .finally(() => { isReading = false; });
}
