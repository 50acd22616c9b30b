// A plain service like the one that Atlas replaces: it verifies a token for each request, parses and
// serializes every line, and opens a transaction for each export. It has no journal.
// Run it with `node tests/bench/plain.mjs` and the environment variables of Atlas.

import crypto from "node:crypto";
import http from "node:http";

const RID = "ri.foundry.main.dataset.19102749-23e6-4fa8-827e-70eae2b94730";
const HOME = `/api/v2/datasets/${RID}`;
const { AUTH0_ISSUER, FOUNDRY_HOST, FOUNDRY_CLIENT_ID, FOUNDRY_CLIENT_SECRET } = process.env;
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });

const fetched = await (await fetch(`${AUTH0_ISSUER}.well-known/jwks.json`)).json();
const keys = new Map(
  fetched.keys.map((key) => [key.kid, crypto.createPublicKey({ key, format: "jwk" })]),
);
const form = new URLSearchParams({
  grant_type: "client_credentials",
  client_id: FOUNDRY_CLIENT_ID,
  client_secret: FOUNDRY_CLIENT_SECRET,
});
const tokenUrl = `${FOUNDRY_HOST}/multipass/api/oauth2/token`;
const { access_token: token } = await (await fetch(tokenUrl, { method: "POST", body: form })).json();

function call(path, type, body) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Length": body.length };
  if (type) headers["Content-Type"] = type;
  return new Promise((resolve, reject) => {
    const request = http.request(FOUNDRY_HOST + path, { method: "POST", headers, agent }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        if (answer.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(`Foundry answered ${answer.statusCode}.`));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

function verifyToken(authorization) {
  const [head, claims, signature] = authorization.slice("Bearer ".length).split(".");
  const { kid } = JSON.parse(Buffer.from(head, "base64url"));
  const signed = Buffer.from(`${head}.${claims}`);
  const isGood = crypto.verify("RSA-SHA256", signed, keys.get(kid), Buffer.from(signature, "base64url"));
  const found = JSON.parse(Buffer.from(claims, "base64url"));
  if (!isGood || found.iss !== AUTH0_ISSUER || found.exp * 1000 < Date.now()) throw new Error("token");
  return found.sub;
}

function flatten(record, user, device, now, timestamp) {
  const phone = record.device || {};
  return {
    auth0_user_id: user,
    device,
    ingested_at: now,
    export_timestamp: timestamp,
    sample_type: record.sampleType || record.type || "",
    source_name: record.sourceName || record.source || "",
    sample_class: record.sampleClass || "",
    quantity_type: record.quantityType || "",
    source_version: record.sourceVersion || "",
    data_type: record.dataType || "",
    uuid: record.uuid || "",
    start_date: record.startDate || record.start || "",
    end_date: record.endDate || record.end || "",
    value_double: record.valueDouble || record.value || null,
    unit: record.unit || "",
    device_hardware_version: phone.hardwareVersion || "",
    device_model: phone.model || "",
    device_name: phone.name || "",
    device_manufacturer: phone.manufacturer || "",
    device_software_version: phone.softwareVersion || "",
    raw_healthkit_record: JSON.stringify(record),
  };
}

async function upload(user, body) {
  const now = new Date().toISOString();
  const device = body.device || "unknown";
  const text = Buffer.from(body.rawhealthkit, "base64").toString("utf-8");
  const records = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  const rows = records.map((each) => flatten(each, user, device, now, body.timestamp || now));
  const ndjson = Buffer.from(rows.map((row) => JSON.stringify(row)).join("\n") + "\n");
  const path = `healthkit/raw/${user}/${now.replace(/[:.]/g, "-")}-${crypto.randomUUID()}.ndjson`;
  const kind = Buffer.from(JSON.stringify({ transactionType: "APPEND" }));
  const { rid } = await call(`${HOME}/transactions?branchName=master`, "application/json", kind);
  const place = `${HOME}/files/${encodeURIComponent(path)}/upload?transactionRid=${rid}`;
  await call(place, "application/x-ndjson", ndjson);
  await call(`${HOME}/transactions/${rid}/commit`, "", Buffer.alloc(0));
  return { success: true, message: "ok", recordsIngested: rows.length, transactionRid: rid, path };
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    let status = 200;
    let reply;
    try {
      const user = verifyToken(request.headers.authorization);
      reply = await upload(user, JSON.parse(Buffer.concat(chunks).toString()));
    } catch (error) {
      status = 500;
      reply = { success: false, error: error.message };
    }
    const text = JSON.stringify(reply);
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) };
    response.writeHead(status, headers).end(text);
  });
});
server.keepAliveTimeout = 75_000;
server.listen(0, "127.0.0.1", () => console.log(`ready http://127.0.0.1:${server.address().port}`));
