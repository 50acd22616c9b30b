// Creates elements, number texts and charts. Values are only set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact" });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const $ = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  return fillElement(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fillElement(document.createElementNS(SVG, name), attributes, children);
}

function fillElement(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Set a text only if it has changed: screen readers announce each change.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const count = (number) => whole.format(number);
export const shortCount = (number) => (number < 100_000 ? whole : compact).format(number);
export const rate = (number) => (number >= 100 ? whole : tenth).format(number);

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit++) number /= 1024;
  return `${unit === 0 || number >= 100 ? whole.format(number) : tenth.format(number)} ${units[unit]}`;
}

export function seconds(number) {
  if (number < 10) return `${tenth.format(number)} s`;
  if (number < 120) return `${whole.format(number)} s`;
  return number < 7200 ? `${whole.format(number / 60)} min` : `${tenth.format(number / 3600)} h`;
}

// The duration of a call, which may be a few milliseconds; a dash if there was none.
export function duration(number) {
  if (number === null) return "–";
  return number < 1 ? `${whole.format(number * 1000)} ms` : seconds(number);
}

export const percent = (share) => `${(share < 0.1 ? tenth : whole).format(share * 100)} %`;

// A link to another server, which opens in a new tab and does not see where it comes from.
export const link = (text, href) => el("a", { href, target: "_blank", rel: "noreferrer" }, text);

// A time such as 14:03:22, with the date if that is not today.
export function moment(text) {
  const [date, time] = new Date(text).toISOString().split("T");
  const today = new Date().toISOString().split("T")[0];
  const shown = date === today ? time.slice(0, 8) : `${date} ${time.slice(0, 5)}`;
  return el("time", { datetime: text, title: text }, shown);
}

// A bar that shows how full a queue is.
export function meter() {
  const bar = svg("rect", { class: "level", height: "100%", width: 0 });
  return svg("svg", { class: "meter", "aria-hidden": "true" }, bar);
}

export function setMeter(meter, share) {
  const percent = Math.min(100, Math.max(0, share * 100));
  meter.firstChild.setAttribute("width", `${percent.toFixed(1)}%`);
  meter.classList.toggle("high", percent >= 80);
}

const HEIGHT = 96;
const TOP = 16; // space for the highest value above the line
const BOTTOM = 16; // and for the times below it

function drawFrame(container, label, from, until, highest) {
  const width = Math.max(200, container.clientWidth);
  const base = HEIGHT - BOTTOM;
  const ago = seconds(until - from);
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": label },
    svg("line", { class: "axis", x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }),
    svg("text", { x: 0, y: 11 }, highest),
    svg("text", { x: 0, y: HEIGHT - 3 }, `${ago} ago`),
    svg("text", { x: width, y: HEIGHT - 3, "text-anchor": "end" }, "now"),
  );
  container.replaceChildren(chart);
  const x = (at) => ((at - from) / (until - from)) * width;
  const y = (share) => base - share * (base - TOP);
  return { chart, x, y, base };
}

// The start of a chart: an hour ago, or the first value since the start of the service.
function chartStart(first, until, secondsMin) {
  return Math.min(until - secondsMin, Math.max(until - 3600, first ?? until));
}

// Draw points [epoch seconds, value], the oldest first, as a line.
export function drawLine(container, points, until, format, name) {
  const from = chartStart(points[0]?.[0], until, 300);
  const visible = points.filter(([at]) => at >= from);
  const highest = Math.max(0, ...visible.map(([, value]) => value));
  const now = visible.length ? visible.at(-1)[1] : 0;
  const label = `${name}: ${format(now)} now, ${format(highest)} at most in the last ${seconds(until - from)}`;
  const { chart, x, y, base } = drawFrame(container, label, from, until, format(highest));
  if (visible.length === 0) return;
  const position = ([at, value]) => `${x(at).toFixed(1)},${y(highest ? value / highest : 0).toFixed(1)}`;
  const path = visible.map(position).join("L");
  const [left, right] = [visible[0][0], visible.at(-1)[0]].map((at) => x(at).toFixed(1));
  chart.append(
    svg("path", { class: "area", d: `M${left},${base}L${path}L${right},${base}Z` }),
    svg("path", { class: "line", d: `M${path}` }),
  );
}

// Draw one bar for each commit, at its time and as high as its rows.
export function drawBars(container, commits, until) {
  const from = chartStart(commits.length ? epochSeconds(commits[0]) : undefined, until, 60);
  const visible = commits.filter((commit) => epochSeconds(commit) >= from);
  const highest = Math.max(1, ...visible.map((commit) => commit.rows));
  const label = `${count(visible.length)} commits in the last ${seconds(until - from)}`;
  const highestLabel = visible.length === 0 ? "" : highest === 1 ? "1 row" : `${count(highest)} rows`;
  const { chart, x, y, base } = drawFrame(container, label, from, until, highestLabel);
  for (const commit of visible) {
    const top = Math.min(base - 3, y(commit.rows / highest));
    const left = Math.max(0, x(epochSeconds(commit)) - 3).toFixed(1);
    const bar = svg("rect", { x: left, y: top, width: 3, height: base - top });
    bar.dataset.trigger = commit.trigger;
    bar.append(svg("title", {}, `${commit.at}: ${summary(commit)}`));
    chart.append(bar);
  }
}

const epochSeconds = (commit) => Date.parse(commit.at) / 1000;

const summary = (commit) =>
  `${count(commit.exports)} exports, ${count(commit.rows)} rows, ${seconds(commit.seconds)}, ${commit.trigger}`;
