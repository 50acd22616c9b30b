// Elements, numbers and charts. Text is always set as text: no value becomes markup.

const SVG = "http://www.w3.org/2000/svg";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const $ = (id) => document.getElementById(id);

export function el(name, given = {}, ...within) {
  return made(document.createElement(name), given, within);
}

export function svg(name, given = {}, ...within) {
  return made(document.createElementNS(SVG, name), given, within);
}

function made(element, given, within) {
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
  element.append(...within);
  return element;
}

export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const count = (number) => whole.format(number);
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

// 14:03:22, or with its date when that is another than today's.
export function moment(text) {
  const [date, time] = new Date(text).toISOString().split("T");
  const today = new Date().toISOString().split("T")[0];
  const shown = date === today ? time.slice(0, 8) : `${date} ${time.slice(0, 5)}`;
  return el("time", { datetime: text, title: text }, shown);
}

// How full something of a size is.
export function meter() {
  const bar = svg("rect", { class: "level", height: "100%", width: 0 });
  return svg("svg", { class: "meter", "aria-hidden": "true" }, bar);
}

export function fill(meter, part) {
  const percent = Math.min(100, Math.max(0, part * 100));
  meter.firstChild.setAttribute("width", `${percent.toFixed(1)}%`);
  meter.classList.toggle("high", percent >= 80);
}

const HEIGHT = 96;
const TOP = 16; // room for the highest value above the line
const FOOT = 16; // and for the times below it

function frame(place, name, from, until, highest) {
  const width = Math.max(200, place.clientWidth);
  const base = HEIGHT - FOOT;
  const ago = seconds(until - from);
  const drawn = svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": name },
    svg("line", { class: "axis", x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }),
    svg("text", { x: 0, y: 11 }, highest),
    svg("text", { x: 0, y: HEIGHT - 3 }, `${ago} ago`),
    svg("text", { x: width, y: HEIGHT - 3, "text-anchor": "end" }, "now"),
  );
  place.replaceChildren(drawn);
  const x = (at) => ((at - from) / (until - from)) * width;
  const y = (share) => base - share * (base - TOP);
  return { drawn, x, y, base };
}

// An hour, or what there is of it since the start.
function beginning(first, until, least) {
  return Math.min(until - least, Math.max(until - 3600, first ?? until));
}

// Points are [epoch seconds, value], the oldest first.
export function line(place, points, until, shown, what) {
  const from = beginning(points[0]?.[0], until, 300);
  const within = points.filter(([at]) => at >= from);
  const highest = Math.max(0, ...within.map(([, value]) => value));
  const now = within.length ? within.at(-1)[1] : 0;
  const name = `${what}: ${shown(now)} now, ${shown(highest)} at most in the last ${seconds(until - from)}`;
  const { drawn, x, y, base } = frame(place, name, from, until, shown(highest));
  if (within.length === 0) return;
  const at = ([when, value]) => `${x(when).toFixed(1)},${y(highest ? value / highest : 0).toFixed(1)}`;
  const path = within.map(at).join("L");
  const ends = [within[0][0], within.at(-1)[0]].map((when) => x(when).toFixed(1));
  drawn.append(
    svg("path", { class: "area", d: `M${ends[0]},${base}L${path}L${ends[1]},${base}Z` }),
    svg("path", { class: "line", d: `M${path}` }),
  );
}

// A bar each, at its time and as high as its rows; the newest stands at the right.
export function bars(place, commits, until) {
  const from = beginning(commits.length ? when(commits[0]) : undefined, until, 60);
  const within = commits.filter((each) => when(each) >= from);
  const highest = Math.max(1, ...within.map((each) => each.rows));
  const name = `${count(within.length)} commits in the last ${seconds(until - from)}`;
  const { drawn, x, y, base } = frame(place, name, from, until, `${count(highest)} rows`);
  for (const each of within) {
    const top = Math.min(base - 3, y(each.rows / highest));
    const bar = svg("rect", { x: Math.max(0, x(when(each)) - 3).toFixed(1), y: top, width: 3, height: base - top });
    bar.dataset.trigger = each.trigger;
    bar.append(svg("title", {}, `${each.at}: ${summary(each)}`));
    drawn.append(bar);
  }
}

const when = (commit) => Date.parse(commit.at) / 1000;

const summary = (commit) =>
  `${count(commit.exports)} exports, ${count(commit.rows)} rows, ${seconds(commit.seconds)}, ${commit.trigger}`;
