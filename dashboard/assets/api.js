// The coordinator's API: questions, orders, and live parts that are kept up to date.

/** What went wrong, in the coordinator's words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(`/api/v1${path}`, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "the coordinator does not answer");
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  let message = `the coordinator answered ${response.status}`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    /* somebody on the way answered */
  }
  throw new Refused(response.status, message);
}

export const get = (path) => call(path);

const post = (path, body) =>
  call(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-bloctrain": "1" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

export const session = () => call("/session");
export const login = (token) => post("/session", { token });
export const logout = () => post("/session/end");
export const order = (run, what) => post(`/runs/${encodeURIComponent(run)}/${what}`);

/** Longest pause before a stream is asked for again. */
const PAUSE_MS = 10_000;

/** Time without a word after which a stream counts as broken; the coordinator says something every ten seconds. */
const SILENCE_MS = 25_000;

/**
 * Follows a topic. `parts` is kept up to date: values as they are, rows as a Map, lines as an array; `changed(name)` is
 * called after every event, `status` with "live", "waiting", or what was refused. Gives a function that ends it.
 * A page that nobody sees asks for nothing: browsers have few connections for one address.
 */
export function follow(query, changed, status) {
  const parts = {};
  const search = new URLSearchParams(query);
  let source = null,
    timer = null,
    watch = null,
    ended = false,
    pause = 500;

  const apply = (name, value) => {
    if (value && value.set) {
      const rows = value.reset || !parts[name] ? new Map() : parts[name];
      for (const [key, row] of Object.entries(value.set)) rows.set(key, row);
      for (const key of value.gone) rows.delete(key);
      parts[name] = rows;
    } else if (value && value.lines && "reset" in value) {
      parts[name] = value.reset ? value.lines : (parts[name] ?? []).concat(value.lines);
      // A page that is open for days keeps what is on the screen.
      if (name !== "history" && parts[name].length > 2000) parts[name] = parts[name].slice(-1000);
    } else parts[name] = value;
    changed(name, parts);
  };

  const close = () => {
    clearTimeout(timer);
    clearTimeout(watch);
    source?.close();
    source = null;
  };

  const again = () => {
    close();
    if (ended || document.hidden) return;
    status("waiting");
    timer = setTimeout(open, pause);
    pause = Math.min(PAUSE_MS, pause * 1.7);
  };

  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(again, SILENCE_MS);
  };

  async function open() {
    close();
    if (ended || document.hidden) return;
    // Says why there is no stream, which an event source does not.
    try {
      if (!(await session()).role) return status("unauthorised");
    } catch {
      return again();
    }
    if (ended || document.hidden) return;
    source = new EventSource(`/api/v1/stream?${search}`);
    const names = {
      runs: ["fleet", "runs"],
      workers: ["fleet", "workers"],
      events: ["events"],
      run: ["detail", "history", "log", "run"],
    };
    for (const name of names[query.topic]) {
      source.addEventListener(name, (event) => {
        pause = 500;
        alive();
        status("live");
        apply(name, JSON.parse(event.data));
      });
    }
    source.addEventListener("beat", alive);
    source.onopen = alive;
    source.onerror = async () => {
      close();
      try {
        if (query.topic === "run") await get(`/runs/${encodeURIComponent(query.run)}`);
      } catch (refused) {
        if (refused.status === 404) return status("gone", refused.message);
        if (refused.status === 401) return status("unauthorised");
      }
      again();
    };
    alive();
  }

  const seen = () => (document.hidden ? close() : source || open());
  document.addEventListener("visibilitychange", seen);
  open();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", seen);
    close();
  };
}
