const $ = (selector) => document.querySelector(selector);
const form = $("form");
const flowNames = new Map([...form.querySelectorAll("option")].map((option) => [option.value, option.textContent]));
const waiting = new Map(); // what to do when the call with an ID arrives

// The request that the form describes. Non-ASCII characters are escaped, because a header cannot contain them.
function requestOf(form) {
  const value = (name) => form.elements[name].value.trim();
  const fields = { configurationId: value("configurationId") };
  const headers = { "Content-Type": "application/json" };
  const caller = form.elements.caller.value;
  if (caller) {
    const claims = JSON.stringify(value("customer") ? { [form.dataset.claim]: value("customer") } : {});
    headers[caller] = claims.replace(/[^ -~]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
  } else if (value("customer")) {
    fields.externalCustomerId = value("customer");
  }
  for (const name of ["countryCode", "language", "redirectionUrl"]) {
    if (value(name)) fields[name] = value(name);
  }
  if (value("customFields")) fields.customFields = JSON.parse(value("customFields"));
  return { headers, body: JSON.stringify(fields) };
}

function curlOf({ headers, body }) {
  const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const options = Object.entries(headers).map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`);
  return ["curl -s", `${location.origin}/omni/start`, ...options, "-d", quote(body)].join(" ");
}

form.elements.customFields.addEventListener("input", ({ target }) => {
  let message = "";
  try { JSON.parse(target.value || "{}"); } catch { message = "Enter a JSON object."; }
  target.setCustomValidity(message);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (form.dataset.incode && !confirm(`Start a real session at ${form.dataset.incode}?`)) return;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const request = requestOf(form);
    const response = await fetch("/omni/start", { method: "POST", ...request });
    const text = await response.text();
    const id = response.headers.get("Apigw-Requestid");
    const call = calls.find((c) => c.ID === id) ?? (await new Promise((resolve) => waiting.set(id, resolve)));
    show(call, { curl: curlOf(request), text });
  } catch (error) {
    $("#outcome").textContent = "No response";
    $("#summary").textContent = `${error.message}. Does make run still run?`;
  } finally {
    button.disabled = events.readyState !== EventSource.OPEN;
  }
});

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

const failed = (call) => call.Status >= 300 || call.Outcome === "preflight refused";
const ms = (number) => `${number.toFixed(number < 10 ? 1 : 0)} ms`;

// show displays a call, with its request and response if this page has sent it.
async function show(call, exchange) {
  $("#outcome").textContent = `${call.Status} ${call.Outcome}`;
  $("#outcome").className = failed(call) ? "bad" : "good";
  const fields = (call.Problem.Errors ?? []).map((error) => error.Pointer).join(", ");
  const about = [`${call.Method} ${call.Path}`, call.Reason, fields, call.Caller && `from ${call.Caller}`];
  $("#summary").textContent = about.filter(Boolean).join(" · ");
  $("#exchange").hidden = !exchange;
  $("#curl").textContent = exchange?.curl ?? "";
  $("#body").textContent = pretty(exchange?.text ?? "");
  const line = call.Log ? JSON.parse(call.Log) : undefined;
  $("#logged").hidden = !line;
  $("#log").textContent = pretty(call.Log);
  $("#timing").hidden = !line;
  if (line) showTiming(call, line);
  $("#problem").hidden = true;
  if (line && line.code !== "ok") {
    $("#problem article").replaceChildren(...(await entryOf(line.code)));
    $("#problem").hidden = false;
  }
}

// A cold start also loads the key and connects to Incode. Later, a call does so only when that is needed.
function showTiming(call, line) {
  const key = line.secretMs, incode = line.incodeMs ?? 0, connection = line.connectMs ?? 0;
  const parts = [["Cold start, with key and connection", call.ColdStartMs], ["Key", key], ["Connection", connection],
    ["Incode", incode - connection], ["Own time", call.TotalMs - call.ColdStartMs - key - incode]].map(([name, time]) => [name, Math.max(0, time)]);
  const element = (name, className) => Object.assign(document.createElement(name), { className });
  $("#timing .bar").replaceChildren(...parts.flatMap(([, time], i) => {
    const part = element("span", `part${i}`);
    part.style.flexGrow = 1000 * time; // a sum below 1 would not fill the bar
    return time > 0 ? [part] : [];
  }));
  $("#timing ul").replaceChildren(...parts.map(([name, time], i) => {
    const item = element("li", "");
    item.append(element("i", `part${i}`), `${name} ${time > 0 ? ms(time) : "–"}`);
    return item;
  }));
}

// entryOf returns the elements of a problem's entry in the catalogue.
let catalogue;
async function entryOf(code) {
  catalogue ??= fetch("/problems/").then((response) => response.text());
  catalogue.catch(() => { catalogue = undefined; });
  const entry = [];
  const heading = new DOMParser().parseFromString(await catalogue, "text/html").getElementById(code);
  for (let e = heading?.nextElementSibling; e && e.tagName !== "H2"; e = e.nextElementSibling) {
    entry.push(document.importNode(e, true));
  }
  return entry;
}

$("#copy").addEventListener("click", async () => {
  getSelection().selectAllChildren($("#curl")); // for a page without access to the clipboard
  await navigator.clipboard?.writeText($("#curl").textContent);
  $("#copy").textContent = "Copied";
  setTimeout(() => { $("#copy").textContent = "Copy"; }, 1500);
});

function rowOf(call) {
  const row = document.createElement("tr");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: call.Outcome });
  button.addEventListener("click", () => show(call));
  const flow = flowNames.get(call.Flow) ?? (call.Flow || (call.Caller ? "–" : `${call.Method} ${call.Path}`));
  const cells = [new Date(call.At).toLocaleTimeString(), call.Status, button, flow, call.Caller || "–", call.TotalMs ? call.TotalMs.toFixed(0) : "–"];
  for (const content of cells) row.insertCell().append(content);
  row.cells[1].className = failed(call) ? "bad" : "good";
  return row;
}

let calls = []; // the newest first
const events = new EventSource("/calls");
events.addEventListener("open", () => {
  // The program was restarted, and may call the real Incode now.
  if ($("#live").textContent === "not connected") location.reload();
  $("#live").textContent = "live";
});
events.addEventListener("error", () => {
  $("#live").textContent = "not connected";
  form.querySelector("button").disabled = true;
});
events.addEventListener("message", ({ data }) => {
  const call = JSON.parse(data);
  calls = [call, ...calls].slice(0, 20);
  $("tbody").prepend(rowOf(call)); // the other rows stay, and with them the focus
  $("tbody").rows[20]?.remove();
  waiting.get(call.ID)?.(call);
  waiting.delete(call.ID);
});
