// Draws an OpenAPI document: its operations, then its types. Everything in it is set as text.

const METHODS = ["get", "post"];
const LIMITS = ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "default"];
const isOperator = new URLSearchParams(location.search).get("of") === "operator";
const main = document.getElementById("main");
let api;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.flat(Infinity).filter((child) => child != null));
  return made;
}

// Text in which words between ` are code, and empty lines begin a paragraph.
function prose(text = "") {
  return text.split("\n\n").filter(Boolean).map((part) => element("p", {}, inline(part)));
}

function inline(text = "") {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function resolve(part) {
  if (!part?.$ref) return part;
  return part.$ref.slice(2).split("/").reduce((found, name) => found[name.replaceAll("~1", "/")], api);
}

const nameOf = (reference) => reference.split("/").at(-1);

// The type of a schema, in words and links.
function type(schema) {
  if (schema.$ref) return element("a", { href: `#type-${nameOf(schema.$ref)}` }, nameOf(schema.$ref));
  if (schema.allOf) return [schema.allOf.map(type), schema.nullable ? " or null" : null];
  if (schema.oneOf) return schema.oneOf.flatMap((each, index) => [index ? " or " : null, type(each)]);
  const words = [schema.type];
  if (schema.type === "array") words.push(" of ", type(schema.items));
  if (schema.additionalProperties?.type || schema.additionalProperties?.$ref) words.push(" of ", type(schema.additionalProperties));
  if (schema.format) words.push(` (${schema.format})`);
  if (schema.nullable) words.push(" or null");
  if (schema.enum) words.push(": ", schema.enum.map((value, index) => [index ? " " : null, element("code", {}, value)]));
  return words;
}

function limits(schema) {
  const found = LIMITS.filter((name) => name in schema).map((name) => `${name} ${schema[name]}`);
  if (schema.deprecated) found.unshift("deprecated");
  return found.length ? element("div", { class: "quiet" }, found.join(", ")) : null;
}

function table(caption, heads, rows) {
  const cells = (row) => row.map((cell, index) => element(index ? "td" : "th", index ? {} : { scope: "row" }, cell));
  return element("table", {},
    element("caption", { class: "visually-hidden" }, caption),
    element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, rows.map((row) => element("tr", {}, cells(row)))));
}

function fields(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([field, each]) => [
    [element("code", {}, field), schema.required?.includes(field) ? null : element("div", { class: "quiet" }, "optional")],
    [type(each), limits(each)],
    inline(each.description),
  ]);
  return rows.length ? table(`Fields of ${name}`, ["Field", "Type", "Description"], rows) : element("p", {}, type(schema));
}

function parameters(operation) {
  const all = (operation.parameters ?? []).map(resolve);
  if (!all.length) return null;
  const rows = all.map((each) => [
    [element("code", {}, each.name), element("div", { class: "quiet" }, `${each.in}${each.required ? ", required" : ""}`)],
    [type(each.schema), limits(each.schema)],
    [inline(each.description), each.example === undefined ? null : [" Example: ", element("code", {}, String(each.example))]],
  ]);
  return [element("h3", {}, "Parameters"), table(`Parameters of ${operation.operationId}`, ["Name", "Type", "Description"], rows)];
}

// The types and examples of a body, by media type.
function content(body, label) {
  return Object.entries(body?.content ?? {}).map(([media, each]) => {
    const examples = Object.entries(each.examples ?? {}).map(([name, { value }]) => [name, value]);
    if (each.example !== undefined) examples.push(["example", each.example]);
    return [
      element("p", {}, element("code", {}, media), ": ", type(each.schema)),
      examples.map(([name, value]) => element("details", {},
        element("summary", {}, name),
        element("pre", { tabindex: "0", role: "region", "aria-label": `${label} ${media} ${name}` },
          typeof value === "string" ? value : JSON.stringify(value, null, 2)))),
    ];
  });
}

function response(operation, status, reference) {
  const found = resolve(reference);
  const headers = Object.entries(found.headers ?? {}).map(([name, each]) => [
    element("code", {}, name), type(resolve(each).schema), inline(resolve(each).description),
  ]);
  const label = `${operation.operationId} ${status}`;
  return element("details", {},
    element("summary", {}, element("b", {}, status), " ", inline(found.description)),
    headers.length ? table(`Headers of ${label}`, ["Header", "Type", "Description"], headers) : null,
    content(found, label));
}

function operation(method, path, each) {
  const responses = Object.entries(each.responses).map(([status, found]) => response(each, status, found));
  return element("details", { id: each.operationId, class: "operation" },
    element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path), " ", inline(each.summary)),
    prose(each.description),
    each.security || api.security ? element("p", {}, "Needs a bearer token.") : null,
    parameters(each),
    each.requestBody ? [element("h3", {}, "Body"), content(each.requestBody, each.operationId)] : null,
    element("h3", {}, "Responses"), responses);
}

function section(id, title, about, children) {
  return element("section", { "aria-labelledby": id }, element("h2", { id }, title), prose(about), children);
}

function draw() {
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => [method, path, item[method]]));
  const tags = api.tags.map((tag) => section(`tag-${tag.name.replaceAll(" ", "-")}`, tag.name, tag.description,
    operations.filter(([, , each]) => each.tags.includes(tag.name)).map((each) => operation(...each))));
  const types = Object.entries(api.components.schemas).map(([name, schema]) =>
    element("details", { id: `type-${name}` }, element("summary", {}, element("code", {}, name)),
      prose(schema.description), fields(name, schema)));
  main.append(section("about", `${api.info.title} ${api.info.version}`, api.info.description,
    element("p", {}, element("a", { href: source }, "The document"), ` (OpenAPI ${api.openapi})`)),
    ...tags, section("types", "types", "", types));
}

// Open the operation or the type that the address names, and go there.
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(target instanceof HTMLDetailsElement)) return;
  target.open = true;
  target.querySelector("summary").focus();
}

const source = isOperator ? "/openapi.json" : "/openapi-public.json";
document.querySelector(`[data-document=${isOperator ? "operator" : "public"}]`).setAttribute("aria-current", "page");
try {
  api = await (await fetch(source)).json();
  draw();
  follow();
  addEventListener("hashchange", follow);
} catch (error) {
  document.getElementById("problem").textContent = `${source} cannot be shown: ${error.message}`;
}
