// The verdict: the state of the service, or of the connection to it, here and in the tab's title.

import { $, count, el, moment, setText } from "/drawing.js";

const WORDS = { new: "Connecting", ok: "OK", degraded: "Degraded", down: "Down", gone: "No connection" };
const OK_MEANING = "Exports are accepted, and reach Foundry.";

// Draw the verdict of the last status. `silence` is null while the status is up to date, and
// otherwise the seconds since the last one and the reason.
export function drawVerdict(status, silence) {
  const state = silence !== null ? "gone" : (status?.verdict.state ?? "new");
  $("verdict").dataset.state = state;
  setText($("verdict-state"), WORDS[state]);
  setText($("verdict-age"), silence === null ? "" : `for ${describeAge(silence.seconds)}`);
  drawReasons(silence === null ? listReasons(status) : [silence.reason, ...describeLast(status)]);
  const title = state === "new" ? "Atlas" : `${WORDS[state].toUpperCase()} · Atlas`;
  if (document.title !== title) document.title = title;
  drawActions(status?.journal ?? { failed: 0, failed_reason: null, set_aside: 0 });
}

function listReasons(status) {
  if (status === null) return [];
  return status.verdict.state === "ok" ? [OK_MEANING] : status.verdict.reasons;
}

function describeLast(status) {
  if (status === null) return [];
  const word = status.verdict.state === "ok" ? WORDS.ok : status.verdict.state;
  return [`It was ${word} at ${moment(status.at).textContent}. Everything below is of that time.`];
}

function describeAge(seconds) {
  const whole = Math.floor(seconds);
  return whole < 120 ? `${whole} s` : `${count(Math.floor(whole / 60))} min`;
}

// Change only the lines that differ: screen readers announce each change.
function drawReasons(reasons) {
  const list = $("reasons");
  while (list.children.length > reasons.length) list.lastChild.remove();
  reasons.forEach((reason, index) => setText(list.children[index] ?? list.appendChild(el("li")), reason));
}

function drawActions({ failed, failed_reason, set_aside }) {
  drawAction($("set-aside-show"), set_aside, "set aside");
  drawAction($("failed-show"), failed, "that failed");
  $("failed-reason").hidden = failed === 0 || failed_reason === null;
  setText($("failed-reason"), `The last failure: ${failed_reason}`);
}

function drawAction(button, number, which) {
  button.hidden = number === 0;
  setText(button, `Show the ${count(number)} ${which}`);
}
