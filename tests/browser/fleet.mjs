// A real fleet for a browser to look at: a coordinator with tokens, workers, and the command.

import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

export const TOKENS = {
  join: "join-0123456789abcdef",
  viewer: "viewer-0123456789abcdef",
  operator: "operator-0123456789abcdef",
};

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something is true; says what it was when it does not become so. */
export async function until(what, look, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await pause(100);
  }
}

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

export class Fleet {
  constructor(program) {
    this.program = program;
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), "bloctrain-browser-"));
    this.store = path.join(this.folder, "store");
    this.children = new Set();
  }

  /** What a process is given: no settings of whoever runs this. */
  env(more = {}) {
    const own = Object.entries(process.env).filter(([key]) => !key.startsWith("BLOCTRAIN"));
    return { ...Object.fromEntries(own), BLOCTRAIN_LOG: "warn", ...more };
  }

  start(args, env) {
    const log = fs.openSync(path.join(this.folder, `${args[0]}-${this.children.size}.log`), "a");
    const child = spawn(this.program, args, { env: this.env(env), stdio: ["ignore", log, log], cwd: this.folder });
    this.children.add(child);
    child.on("exit", () => this.children.delete(child));
    return child;
  }

  /** Starts the coordinator, on the same ports every time. */
  async coordinate(...more) {
    this.grpc ??= await freePort();
    this.http ??= await freePort();
    this.coordinator = this.start(
      [
        "coordinator",
        "--store",
        this.store,
        "--listen",
        `127.0.0.1:${this.grpc}`,
        "--http",
        `127.0.0.1:${this.http}`,
        ...more,
      ],
      {
        BLOCTRAIN_JOIN_TOKEN: TOKENS.join,
        BLOCTRAIN_VIEWER_TOKEN: TOKENS.viewer,
        BLOCTRAIN_OPERATOR_TOKEN: TOKENS.operator,
      },
    );
    await until(
      "the coordinator is active",
      async () => (await fetch(`${this.url}/health/active`).catch(() => null))?.ok,
    );
  }

  get url() {
    return `http://127.0.0.1:${this.http}`;
  }

  work(name) {
    return this.start(["worker", "--coordinator", `http://127.0.0.1:${this.grpc}`, "--name", name, "--device", "cpu"], {
      BLOCTRAIN_JOIN_TOKEN: TOKENS.join,
    });
  }

  /** Runs a command of an operator to its end; gives what it printed. */
  command(...args) {
    const done = spawnSync(this.program, [...args, "--coordinator", `http://127.0.0.1:${this.grpc}`], {
      env: this.env({ BLOCTRAIN_TOKEN: TOKENS.operator }),
      encoding: "utf8",
      cwd: this.folder,
    });
    if (done.status !== 0) throw new Error(`${args.join(" ")}: ${done.stderr}`);
    return done.stdout.trim();
  }

  async api(place, token = TOKENS.operator) {
    const response = await fetch(`${this.url}/api/v1${place}`, { headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`${place}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async kill(child) {
    const gone = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async end() {
    for (const child of [...this.children]) child.kill("SIGKILL");
    await pause(200);
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A picture of one colour as a BMP file: 24 bits, rows from below, each of a multiple of four bytes. */
function bmp(size, [red, green, blue]) {
  const row = Math.ceil((size * 3) / 4) * 4,
    file = Buffer.alloc(54 + row * size);
  file.write("BM");
  file.writeUInt32LE(file.length, 2);
  file.writeUInt32LE(54, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(size, 18);
  file.writeInt32LE(size, 22);
  file.writeUInt16LE(1, 26);
  file.writeUInt16LE(24, 28);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const noise = (x * 7 + y * 13) % 40;
      [blue, green, red].forEach((value, index) => (file[54 + y * row + x * 3 + index] = Math.min(255, value + noise)));
    }
  }
  return file;
}

/** A data set of folders whose classes and files have the given names. */
export function folders(root, classes, file, each = 60) {
  for (const split of ["train", "test"]) {
    classes.forEach((name, label) => {
      const place = path.join(root, split, name);
      fs.mkdirSync(place, { recursive: true });
      for (let index = 0; index < each; index++) {
        const shade = (index * 37) % 120;
        fs.writeFileSync(
          path.join(place, `${index}${file}.bmp`),
          bmp(12, [label * 60 + (shade % 30), shade, 200 - label * 50]),
        );
      }
    });
  }
  return root;
}
