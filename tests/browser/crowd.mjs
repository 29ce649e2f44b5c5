// What many cost: 1,000 workers that compute nothing, 200 runs, 50 viewers: scripts/browser-check --crowd.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { Fleet, TOKENS, pause, until } from "./fleet.mjs";

const [program] = process.argv.slice(2);
const need = createRequire(path.join(process.env.BLOCTRAIN_BROWSER_PACKAGES, "_"));
const { chromium } = need("playwright-core");
const grpc = need("@grpc/grpc-js"),
  loader = need("@grpc/proto-loader");
const WORKERS = 1000,
  VIEWERS = 50,
  SECONDS = 15,
  WAIT_MS = 5000;

const fleet = new Fleet(program);
let browser = null,
  ended = false;

/** Processor seconds of a process so far. */
function cpu(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Share of one processor that the coordinator takes over some seconds. */
async function share() {
  const [before, begun] = [cpu(fleet.coordinator.pid), Date.now()];
  await pause(SECONDS * 1000);
  return (cpu(fleet.coordinator.pid) - before) / ((Date.now() - begun) / 1000);
}

function worker(client, meta, number) {
  const call = (name, message) =>
    new Promise((resolve, reject) =>
      client[name](message, meta, (error, answer) => (error ? reject(error) : resolve(answer))),
    );
  return (async () => {
    const { worker } = await call("Register", {
      name: `simulated-${String(number).padStart(4, "0")}`,
      backend: "cpu",
      arithmetic: ARITHMETIC,
      store: STORE,
      instance: `i${number}`,
      precision: "f32",
      version: "simulated",
      device: "cpu",
      memoryBytes: 64 * 2 ** 30,
    });
    let held = null,
      done = 0;
    while (!ended) {
      // As a worker asks: a call waits for a task, and the next one follows at once.
      if (!held) held = (await call("Lease", { worker, waitMs: WAIT_MS })).grant;
      if (held) {
        done += 50;
        await call("Heartbeat", {
          worker,
          run: held.run,
          task: held.task,
          leaseEpoch: held.leaseEpoch,
          progressJson: JSON.stringify({
            done,
            total: 100000,
            epoch: 0,
            epochs: 30,
            loss: 1,
            accuracy: 0.5,
            images_per_second: 100,
            firing_rate: 0.1,
            waiting_fraction: 0,
          }),
        }).catch(() => (held = null));
        await pause(2000);
      }
    }
  })();
}

let ARITHMETIC = 0,
  STORE = "";

async function main() {
  await fleet.coordinate("--lease", "120s");
  const sweep = path.join(fleet.folder, "sweep.toml");
  const values = (count, from, step) =>
    Array.from({ length: count }, (_, index) => (from + step * index).toFixed(4)).join(", ");
  fs.writeFileSync(
    sweep,
    `[network]\nwidth = 4\n[sweep]\nname = "crowd"\n` +
      `"train.learning_rate" = [${values(20, 0.001, 0.0005)}]\n` +
      `"hard_classes.threshold" = [${values(10, 0.5, 0.04)}]\n`,
  );
  fleet.command("submit", sweep, "--max-runs", "200");
  const definition = loader.loadSync("bloctrain/v1/worker_service.proto", {
    includeDirs: [path.resolve("proto")],
    longs: Number,
    defaults: true,
  });
  const people = loader.loadSync("bloctrain/v1/run_service.proto", {
    includeDirs: [path.resolve("proto")],
    longs: Number,
    defaults: true,
  });
  const address = `127.0.0.1:${fleet.grpc}`,
    plain = grpc.credentials.createInsecure();
  const meta = (token) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    return metadata;
  };
  const runs = new (grpc.loadPackageDefinition(people).bloctrain.v1.RunService)(address, plain);
  const known = await new Promise((resolve, reject) =>
    runs.GetFleet({}, meta(TOKENS.operator), (error, answer) => (error ? reject(error) : resolve(answer))),
  );
  ARITHMETIC = known.arithmetic;
  STORE = JSON.parse(fs.readFileSync(path.join(fleet.store, "format.json"), "utf8")).store;
  const Service = grpc.loadPackageDefinition(definition).bloctrain.v1.WorkerService;
  const clients = Array.from(
    { length: 20 },
    (_, index) =>
      new Service(address, plain, { "grpc.use_local_subchannel_pool": 1, "grpc.primary_user_agent": `w${index}` }),
  );
  for (let number = 0; number < WORKERS; number++) {
    worker(clients[number % clients.length], meta(TOKENS.join), number).catch((error) =>
      console.log(`a worker ended: ${error.message}`),
    );
    if (number % 50 === 49) await pause(100);
  }
  await until("all workers are there", async () => (await fleet.api("/workers")).workers.length === WORKERS, 120);
  await pause(5000);
  const alone = await share();
  console.log(`coordinator with ${WORKERS} workers, 200 runs, no viewer: ${(alone * 100).toFixed(1)} % of a processor`);

  const counts = { bytes: 0 };
  const viewers = [];
  for (let number = 0; number < VIEWERS; number++) {
    const stop = new AbortController();
    const topic = ["runs", "workers"][number % 2];
    const response = await fetch(`${fleet.url}/api/v1/stream?topic=${topic}`, {
      headers: { authorization: `Bearer ${TOKENS.viewer}` },
      signal: stop.signal,
    });
    (async () => {
      for await (const chunk of response.body) counts.bytes += chunk.length;
    })().catch(() => null);
    viewers.push(stop);
  }
  await pause(3000);
  counts.bytes = 0;
  const looked = await share();
  console.log(
    `with ${VIEWERS} viewers, half on runs and half on workers: ${(looked * 100).toFixed(1)} %, ` +
      `so they cost ${((looked - alone) * 100).toFixed(1)} %; ` +
      `${(counts.bytes / SECONDS / VIEWERS / 1000).toFixed(1)} kB a second each`,
  );

  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  for (const [topic, rows] of [
    ["runs", 50],
    ["workers", 50],
  ]) {
    const page = await (await browser.newContext({ viewport: { width: 1280, height: 860 } })).newPage();
    await page.goto(fleet.url);
    await page.getByLabel("Access token").fill(TOKENS.viewer);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator(".light.live").waitFor();
    const begun = Date.now();
    await page.goto(`${fleet.url}/#/${topic}`);
    await until("a page of rows", async () => (await page.locator("tbody tr").count()) === rows, 30);
    console.log(`${topic}: shown after ${Date.now() - begun} ms`);
    const long = await page.evaluate(
      (ms) =>
        new Promise((resolve) => {
          const tasks = [];
          new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({
            type: "longtask",
          });
          setTimeout(() => resolve(tasks), ms);
        }),
      15_000,
    );
    console.log(
      `${topic}: tasks of 50 ms and more in 15 s: ${long.length}, the longest ${Math.round(Math.max(0, ...long))} ms`,
    );
  }
  viewers.forEach((viewer) => viewer.abort());
}

try {
  await main();
} catch (error) {
  console.log(error.stack);
  process.exitCode = 1;
} finally {
  ended = true;
  await browser?.close();
  await fleet.end();
}
process.exit();
