// Uses the page of make run as a person does. See check.sh.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const project = new URL("../..", import.meta.url).pathname;
const flow = "6245f1e0c8d4b2a39e7f1c05";
// What the log of Chromium says of each response that is an error or is missing. It is no error of the page.
const failedResponse = /^Failed to load resource: (the server responded with a status of \d+ |net::ERR_)/;

let browser;
before(async () => {
  const args = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: args.split(" ") });
});
const programs = [];
after(() => {
  for (const program of programs) program.kill("SIGINT");
  return browser?.close();
});

// run starts the program of make run with these variables. It returns the process, the curl command that it prints, and
// the origin of its page.
async function run(env) {
  const program = spawn(".build/browser/run", [".", ".build/browser/bootstrap"], { cwd: project, env: { PATH: process.env.PATH, PORT: "0", ...env } });
  programs.push(program);
  let curl, origin;
  for await (const line of createInterface(program.stdout)) {
    [, curl, origin] = line.match(/^ {2}(curl .*(http:\/\/localhost:\d+).*)/) ?? [];
    if (curl) break;
  }
  program.stdout.resume();
  return { program, curl, origin };
}

// open also opens the page. At the end of the test, there must have been no error and no request to another host.
async function open(t, env = {}, options = {}) {
  const { program, curl, origin } = await run(env);
  const context = await browser.newContext({ viewport: { width: 1080, height: 700 }, ...options });
  const errors = [];
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
  });
  const page = await context.newPage();
  page.on("request", (request) => new URL(request.url()).origin === origin || request.url() === "data:," || errors.push(`request to ${request.url()}`));
  page.on("console", (message) => failedResponse.test(message.text()) || errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(origin);
  await page.getByText("live", { exact: true }).waitFor();
  return { page, curl, program, origin };
}

async function start(page, changes = {}) {
  for (const [name, value] of Object.entries({ configurationId: flow, ...changes })) {
    const field = page.locator(`[name=${name}]`);
    await (name === "configurationId" ? field.selectOption(value) : field.fill(value));
  }
  await page.getByRole("button", { name: "Start session" }).click();
  await page.waitForFunction(() => !document.querySelector("form button").disabled);
}

const text = (page, selector) => page.locator(selector).textContent();
const outcomes = (page) => page.locator("tbody button").allTextContents();

test("a session, three failures, and a call from elsewhere", async (t) => {
  const { page, curl } = await open(t, {}, { deviceScaleFactor: 0.8 }); // about as wide as the README

  await start(page);
  assert.equal(await text(page, "#outcome"), "200 session started");
  const body = JSON.parse(await text(page, "#body"));
  assert.match(body.token, /^ey/);
  assert.equal(await text(page, "#curl"), curl);
  assert.equal(JSON.parse(await text(page, "#log")).code, "ok");
  assert.match(await text(page, "#timing ul"), /Cold start, .* ms.*Key .*Connection .*Incode \d+ ms.*Own time .* ms/);
  assert.equal(await page.locator("#problem").isVisible(), false);
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), curl);

  for (const [end, outcome, meaning] of [
    ["0500", "502 incode-failed", "Incode responded with a 5xx"],
    ["0429", "503 incode-throttled", "Incode responded with 429"],
    ["dead", "502 outcome-unknown", "The connection to Incode broke"],
  ]) {
    await start(page, { configurationId: "0".repeat(20) + end });
    assert.equal(await text(page, "#outcome"), outcome);
    await page.locator("#problem article", { hasText: meaning }).waitFor();
    assert.equal(await page.locator("#problem li").count(), 3);
  }
  assert.deepEqual(await outcomes(page), ["outcome-unknown", "incode-throttled", "incode-failed", "session started"]);
  if (process.env.SCREENSHOT) {
    await page.getByRole("button", { name: "Copy", exact: true }).waitFor();
    await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  }

  const { stdout } = await promisify(execFile)("sh", ["-c", `${curl} -H 'Cookie: canary=canary'`]);
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 5);
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  await page.locator("tbody button").first().click();
  await page.waitForFunction(() => document.querySelector("#outcome").textContent === "200 session started");
  const shown = await page.content();
  await promisify(execFile)("sh", ["-c", curl]);
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 6);
  assert.equal(await focused(), "session started", "a new call takes the focus away");
  assert.ok(!shown.includes(JSON.parse(stdout).token) && !shown.includes("canary"), "a token or a cookie is shown");
});

test("the ways in and the optional fields, by keyboard, in the dark", async (t) => {
  const { page } = await open(t, {}, { colorScheme: "dark" });
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor), "rgb(18, 22, 28)");
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  await page.locator("[name=customer]").focus();
  await press("End");
  await page.keyboard.type("-Jürgen's");
  await press("Tab", "ArrowDown"); // from the last way in to the first
  await press("Tab", "Enter", "Tab"); // opens the optional fields
  await page.keyboard.type("DE");
  await press("Enter"); // in a field, it submits
  await page.getByText("Response body").waitFor();
  const command = await text(page, "#curl");
  assert.match(command, /X-Local-Claims: \{"sub":"customer-42-J\\u00fcrgen'\\''s"\}/);
  assert.match(command, /"countryCode":"DE"\}'$/);
  assert.ok(!command.includes("externalCustomerId"));
  assert.equal(await text(page, "#outcome"), "200 session started");
  assert.match(await text(page, "#summary"), /from jwt$/);

  await page.getByText("your own authorizer").click();
  await start(page, { customer: "customer-42", customFields: '{"plan":"premium"}', redirectionUrl: "https://evil.example/" });
  assert.equal(await text(page, "#outcome"), "422 validation-failed");
  assert.match(await text(page, "#summary"), /\/redirectionUrl, .* from lambda$/);
  assert.match(await text(page, "#curl"), /X-Local-Authorizer: \{"sub":"customer-42"\}.*"customFields":\{"plan":"premium"\}/);
});

test("the real Incode needs a confirmation for each session", async (t) => {
  // Nothing listens there, and the function may call only loopback addresses without TLS.
  const { page } = await open(t, { INCODE_API_KEY: "canary", INCODE_BASE_URL: "http://127.0.0.1:9", ALLOWED_CONFIGURATION_IDS: flow });
  assert.match(await page.getByRole("alert").textContent(), /^This is the real Incode/);
  const red = await page.getByRole("alert").evaluate((e) => getComputedStyle(e).backgroundColor);
  assert.equal(red, "rgb(179, 38, 30)");
  page.once("dialog", (dialog) => dialog.dismiss());
  await start(page);
  assert.deepEqual(await outcomes(page), []);
  page.once("dialog", (dialog) => dialog.accept());
  await start(page);
  assert.deepEqual(await outcomes(page), ["incode-unavailable"]);
  assert.ok(!(await page.content()).includes("canary"));
});

test("a page that is open notices that the program now calls the real Incode", async (t) => {
  const { page, program, origin } = await open(t);
  const ended = new Promise((resolve) => program.once("exit", resolve));
  program.kill("SIGINT");
  await ended;
  await page.getByText("not connected").waitFor();
  assert.ok(await page.getByRole("button", { name: "Start session" }).isDisabled());
  await run({ PORT: new URL(origin).port, INCODE_API_KEY: "canary", INCODE_BASE_URL: "http://127.0.0.1:9" });
  await page.getByText("This is the real Incode").waitFor();
});
