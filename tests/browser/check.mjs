// Everything that the dashboard promises, in a real browser against a real fleet: scripts/browser-check.

import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { Fleet, TOKENS, folders, pause, until } from "./fleet.mjs";

const [program, pictures] = process.argv.slice(2);
const need = createRequire(path.join(process.env.BLOCTRAIN_BROWSER_PACKAGES, "_"));
const { chromium } = need("playwright-core");
const axe = fs.readFileSync(need.resolve("axe-core/axe.min.js"), "utf8");

/** Markup in names: any of it that ran would leave this mark. */
const MARKUP = "<img src=x onerror=window.ran=1>";
const FILE_MARKUP = "<img src=x onerror=window.ran=2>";

let checks = 0;
const problems = [];
function check(what, holds, about = "") {
  checks++;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds || !about ? "" : `: ${about}`}`);
  if (!holds) problems.push(what);
}

const fleet = new Fleet(program);
let browser = null;
/** Console lines and errors of pages; while the coordinator is away, unanswered requests are no problem of the page. */
const said = [];
let away = false;

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const note = (text) => {
    const expected =
      /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|status of 503/.test(
        text,
      );
    if (!(away && expected)) said.push(text);
  };
  page.on(
    "console",
    (line) => ["error", "warning"].includes(line.type()) && note(`${line.text()} ${line.location().url}`),
  );
  page.on("pageerror", (error) => note(`error: ${error.message}`));
  page.on("dialog", (dialog) => (note(`a dialog: ${dialog.message()}`), dialog.dismiss()));
  return { context, page };
}

async function signIn(page, token) {
  await page.goto(fleet.url);
  await page.getByLabel("Access token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

const live = (page) => page.locator(".light.live").waitFor({ timeout: 30_000 });
const state = async (run) => (await fleet.api(`/runs/${run}`)).run.state.state;
const epochs = async (page) => {
  const numbers = page.locator("details");
  if (!(await numbers.evaluate((element) => element.open))) await numbers.locator("summary").click();
  return numbers.locator("tbody tr").count();
};

async function firstView() {
  const { context, page } = await open();
  const client = await context.newCDPSession(page);
  await client.send("Network.enable");
  let bytes = 0;
  client.on("Network.dataReceived", (event) => (bytes += event.dataLength));
  await signIn(page, TOKENS.operator);
  await live(page);
  const begun = Date.now();
  bytes = 0;
  await client.send("Network.clearBrowserCache");
  await page.goto(`${fleet.url}/?again`);
  await page.locator("tbody tr").first().waitFor();
  const took = Date.now() - begun;
  await pause(300);
  check(`a first view takes ${Math.round(bytes / 1000)} kB (below 300)`, bytes > 50_000 && bytes < 300_000, `${bytes}`);
  console.log(`     it showed the runs after ${took} ms on this machine`);
  await context.close();
}

async function roles(run) {
  const { context, page } = await open();
  await signIn(page, "wrong-0123456789abcdef");
  await page.getByRole("alert").getByText("not one of this coordinator's").waitFor();
  check("a wrong token is refused in words", true);
  // That refusal is an answer of 401, which the browser's console names.
  said
    .splice(0)
    .filter((text) => !/401/.test(text))
    .forEach((text) => said.push(text));
  await page.getByLabel("Access token").fill(TOKENS.viewer);
  await page.getByRole("button", { name: "Sign in" }).click();
  await live(page);
  await page.goto(`${fleet.url}/#/run/${run}`);
  await page.locator(".badge.running").waitFor();
  check("a viewer sees no buttons", (await page.locator(".run-head .buttons button").count()) === 0);
  const answer = await page.evaluate(
    async (run) =>
      (await fetch(`/api/v1/runs/${run}/cancel`, { method: "POST", headers: { "x-bloctrain": "1" } })).status,
    run,
  );
  check("a viewer's token cannot cancel", answer === 403 && (await state(run)) === "running", `${answer}`);
  const kept = await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage }));
  check("scripts see neither cookie nor token", !kept.includes("session") && !kept.includes(TOKENS.viewer), kept);
  said
    .splice(0)
    .filter((text) => !/403/.test(text))
    .forEach((text) => said.push(text));
  await context.close();
}

async function training(page, run) {
  await page.goto(`${fleet.url}/#/run/${run}`);
  await until("an epoch is done", async () => (await epochs(page)) > 0, 120);
  const before = await epochs(page);
  await until("curves grow", async () => (await epochs(page)) > before, 120);
  check("curves grow while it trains", true);
  check("four curves are drawn", (await page.locator(".chart canvas").count()) >= 4);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator(".run-head .badge.paused").waitFor();
  check("pause pauses", (await state(run)) === "paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator(".run-head .badge.running").waitFor();
  check("resume resumes", (await state(run)) === "running");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Keep it" }).click();
  check("cancel asks first", (await state(run)) === "running");
  const worker = page.locator(".work li").first();
  await worker.waitFor({ timeout: 60_000 });
  check("who works on it is named", ["worker-a", MARKUP].includes(await worker.locator("strong").textContent()));
}

async function restart(page, run) {
  const before = await epochs(page);
  away = true;
  await fleet.kill(fleet.coordinator);
  await page.locator("#banner").getByText("does not answer").waitFor({ timeout: 40_000 });
  check("the page says that the coordinator is away", true);
  await fleet.coordinate();
  await live(page);
  away = false;
  check("the page recovers by itself after a restart", !(await page.locator("#banner").isVisible()));
  await until("curves grow again", async () => (await epochs(page)) > before, 180);
  const [shown, known] = [await epochs(page), (await fleet.api(`/runs/${run}/history`)).lines.length];
  check("no epoch is there twice", shown <= known, `${shown} of ${known}`);
}

/** Pages of another site, in the browser of somebody who is signed in. */
async function foreign(context, run) {
  const html = `<!doctype html><title>elsewhere</title><form id=form method=post action="${fleet.url}/api/v1/runs/${run}/cancel"></form><iframe id=frame name=frame src="${fleet.url}/"></iframe>`;
  const server = http
    .createServer((_, response) => response.setHeader("content-type", "text/html").end(html))
    .listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const page = await context.newPage();
  await page.goto(`http://localhost:${server.address().port}/`);
  const tried = await page.evaluate(
    async ({ url, run }) => {
      const send = (options) =>
        fetch(`${url}/api/v1/runs/${run}/cancel`, { method: "POST", credentials: "include", ...options }).then(
          (answer) => answer.type,
          (error) => error.name,
        );
      const read = await fetch(`${url}/api/v1/runs`, { credentials: "include" }).then(
        (answer) => answer.text(),
        (error) => error.name,
      );
      return [await send({ mode: "no-cors" }), await send({ headers: { "x-bloctrain": "1" } }), read];
    },
    { url: fleet.url, run },
  );
  await page.evaluate(() => document.getElementById("form").submit());
  await page.waitForLoadState().catch(() => null);
  await pause(500);
  check("another site cannot act", (await state(run)) === "running", JSON.stringify(tried));
  check("another site cannot read", tried[2] === "TypeError", String(tried[2]));
  await page.goto(`http://localhost:${server.address().port}/`);
  await pause(500);
  const inside = page.frames().find((frame) => frame.name() === "frame");
  const shown = await inside.evaluate(() => document.querySelectorAll("#top .brand").length).catch(() => 0);
  check("another site cannot frame it", shown === 0);
  await page.close();
  server.close();
}

const PAGES = (runs) => [
  ["runs", "#/runs", "tbody tr"],
  ["run", `#/run/${runs.main}`, ".pipeline"],
  ["markup", `#/run/${runs.markup}`, ".pipeline"],
  ["completed", `#/run/${runs.done}`, ".tiles"],
  ["workers", "#/workers", "tbody tr"],
  ["sweeps", "#/sweeps", ".parallel path.run"],
  ["events", "#/events", ".events li"],
];

async function look(runs) {
  for (const [mode, options] of [
    ["light", { colorScheme: "light" }],
    ["dark", { colorScheme: "dark" }],
    ["phone", { colorScheme: "light", viewport: { width: 400, height: 820 } }],
  ]) {
    const { context, page } = await open(options);
    await page.goto(fleet.url);
    await page.screenshot({ path: path.join(pictures, `sign-in-${mode}.png`) });
    await accessible(page, `sign in, ${mode}`);
    await signIn(page, TOKENS.operator);
    await live(page);
    for (const [name, hash, ready] of PAGES(runs)) {
      await page.goto(`${fleet.url}/${hash}`);
      await page.locator(ready).first().waitFor({ timeout: 30_000 });
      if (name === "completed") await samples(page, mode);
      await pause(500);
      await page.screenshot({ path: path.join(pictures, `${name}-${mode}.png`), fullPage: true });
      await accessible(page, `${name}, ${mode}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      check(`${name}, ${mode}: nothing is wider than the screen`, wide <= page.viewportSize().width, `${wide}`);
      check(
        `${name}, ${mode}: no markup ran`,
        (await page.evaluate(() => window.ran)) === undefined &&
          (await page.locator('img:not([src^="data:image/png;base64,"])').count()) === 0,
      );
    }
    await context.close();
  }
}

/** Test images of every exit of a completed run are there and are images. */
async function samples(page, mode) {
  await page.locator(".sample").first().waitFor({ timeout: 30_000 });
  const shown = await page.locator(".sample").evaluateAll((figures) =>
    figures.map((figure) => ({
      width: figure.querySelector("img")?.naturalWidth ?? 0,
      blocks: figure.querySelectorAll("li").length,
    })),
  );
  check(
    `completed, ${mode}: ${shown.length} samples with what their blocks said`,
    shown.every((sample) => sample.width > 0 && sample.blocks > 0),
    JSON.stringify(shown),
  );
}

async function accessible(page, name) {
  // The page's policy lets no script in but its own: axe comes in by the debugger's world.
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run(document));
  if (!passes.length) throw new Error(`axe looked at nothing on ${name}`);
  const serious = violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
  check(
    `${name}: axe finds nothing serious`,
    serious.length === 0,
    serious
      .map(
        (found) =>
          `${found.id} (${found.nodes.length}: ${found.nodes[0].target} ` +
          `${found.nodes[0].failureSummary?.split("\n")[1] ?? ""})`,
      )
      .join("; "),
  );
}

async function keyboard(page) {
  await page.goto(`${fleet.url}/#/runs`);
  await page.locator("tbody tr a").first().waitFor();
  await page.evaluate(() => document.activeElement?.blur());
  const reached = new Set();
  for (let press = 0; press < 40; press++) {
    await page.keyboard.press("Tab");
    reached.add(
      await page.evaluate(
        () => document.activeElement?.textContent?.trim() || document.activeElement?.getAttribute("aria-label") || "",
      ),
    );
  }
  check(
    "the keyboard reaches pages, columns, theme and runs",
    ["Skip to content", "Workers", "Light or dark", "Filter runs"].every((name) =>
      [...reached].some((text) => text.includes(name)),
    ) && [...reached].some((text) => text.startsWith("Run")),
    JSON.stringify([...reached]),
  );
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  const before = await theme();
  await page.getByRole("button", { name: "Light or dark" }).click();
  check("the theme can be chosen", (await theme()) !== before);
}

async function main() {
  await fleet.coordinate();
  const worker = fleet.work("worker-a");
  fleet.work(MARKUP);
  const small = ["--set", "network.width=4", "--set", "train.warmup_epochs=0"];
  const done = fleet.command(
    "submit",
    ...small,
    "--set",
    "train.epochs=2",
    "--set",
    "hard_classes.policy=bottom-k",
    "--set",
    "hard_classes.k=6",
    "--set",
    "run.name=a small run",
  );
  const sweep = path.join(fleet.folder, "sweep.toml");
  fs.writeFileSync(
    sweep,
    `[network]\nwidth = 4\n[train]\nepochs = 1\nwarmup_epochs = 0\n` +
      `[sweep]\nname = "${MARKUP.replaceAll('"', "")}"\n` +
      `"train.learning_rate" = [0.002, 0.004]\n"hard_classes.threshold" = [0.8, 0.9]\n`,
  );
  fleet.command("submit", sweep);
  const data = folders(path.join(fleet.folder, "data"), [MARKUP, "b & c", '"quoted"', "plain"], FILE_MARKUP);
  const markup = fleet.command(
    "submit",
    "--data",
    data,
    ...small,
    "--set",
    "train.epochs=2",
    "--set",
    `run.name=${MARKUP}`,
    "--store",
    fleet.store,
  );
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  await until("the small run is completed", async () => (await state(done)) === "completed", 240);
  await until(
    "the run with markup is completed",
    async () => ["completed", "failed"].includes(await state(markup)),
    240,
  );
  await until(
    "the sweep is completed",
    async () => (await fleet.api("/runs")).runs.filter((run) => run.sweep && run.state === "completed").length >= 2,
    240,
  );
  const long = fleet.command(
    "submit",
    "--set",
    "network.width=8",
    "--set",
    "train.epochs=400",
    "--set",
    "run.name=the long run",
  );
  await until("it runs", async () => (await fleet.api(`/runs/${long}`)).run.attempts.length > 0, 120);
  const runs = { main: long, done, markup };

  await firstView();
  await roles(long);
  const { context, page } = await open();
  await signIn(page, TOKENS.operator);
  await live(page);
  await training(page, long);
  await foreign(context, long);
  said
    .splice(0)
    .filter(
      (text) =>
        !/403|CORS|frame-ancestors|Refused to display|ERR_BLOCKED_BY_RESPONSE|Framing|ERR_FAILED|localhost/i.test(text),
    )
    .forEach((text) => said.push(text));
  await look(runs);
  await keyboard(page);
  await page.goto(`${fleet.url}/#/run/${long}`);
  await page.locator(".pipeline").waitFor();
  await restart(page, long);
  check("the worker is still there", worker.exitCode === null);
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Cancel the run" }).click();
  await page.locator(".run-head .badge.cancelled").waitFor();
  check("an operator cancels", (await state(long)) === "cancelled");
  await page.goto(`${fleet.url}/#/workers`);
  await page.locator("tbody tr").first().waitFor();
  const names = await page.locator("tbody").textContent();
  check("markup in a worker's name is text", names.includes(MARKUP), names);
  check("no page wrote to the console", said.length === 0, [...new Set(said)].join(" | "));
}

try {
  await main();
} catch (error) {
  problems.push(error.message);
  console.log(`FAIL ${error.stack}`);
} finally {
  await browser?.close();
  await fleet.end();
}
console.log(`${checks - problems.length} passed, ${problems.length} failed; pictures in ${pictures}`);
process.exit(problems.length ? 1 : 0);
