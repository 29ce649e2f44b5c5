// The frame of the dashboard: who looks, which page, and how the connection stands.

import { login, logout, session } from "./api.js";
import { h, put, say, show } from "./dom.js";
import { events } from "./page/events.js";
import { signIn } from "./page/login.js";
import { run } from "./page/run.js";
import { runs } from "./page/runs.js";
import { sweeps } from "./page/sweeps.js";
import { workers } from "./page/workers.js";

const PAGES = [
  { path: "runs", title: "Runs", page: runs },
  { path: "workers", title: "Workers", page: workers },
  { path: "sweeps", title: "Sweeps", page: sweeps },
  { path: "events", title: "Events", page: events },
];

const main = document.getElementById("main");
const banner = document.getElementById("banner");
let me = null,
  leave = null;

/** What pages may ask of the frame. */
const frame = {
  get operator() {
    return me?.role === "operator";
  },
  title(text) {
    document.title = text ? `${text} · bloctrain` : "bloctrain";
  },
  /** How the live connection of the page stands. */
  status(state, why) {
    if (state === "unauthorised") return begin();
    say(light.lastChild, state === "live" ? "live" : "waiting");
    light.className = `light ${state}`;
    say(
      banner,
      state === "waiting"
        ? "The coordinator does not answer. This page goes on as soon as it does."
        : state === "gone"
          ? why
          : "",
    );
    show(banner, banner.textContent !== "");
  },
  /** What was refused, where people see it. */
  say(text, kind = "problem") {
    const line = h(
      "div",
      { class: `toast ${kind}`, role: kind === "problem" ? "alert" : "status" },
      text,
      h("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => line.remove() }, "×"),
    );
    document.body.append(line);
    setTimeout(() => line.remove(), 8000);
  },
};

const light = h("span", { class: "light" }, h("i", { "aria-hidden": "true" }), h("span", {}, ""));
const links = PAGES.map(({ path, title }) => h("a", { href: `#/${path}` }, title));
const role = h("span", { class: "role" });
const out = h(
  "button",
  {
    type: "button",
    class: "plain",
    onclick: () =>
      logout()
        .catch(() => null)
        .then(() => location.reload()),
  },
  "Sign out",
);
const theme = h(
  "button",
  {
    type: "button",
    class: "plain round",
    "aria-label": "Light or dark",
    title: "Light or dark",
    onclick: () => window.bloctrainTheme.toggle(),
  },
  h("span", { class: "moon", "aria-hidden": "true" }),
);

put(
  document.getElementById("top"),
  h(
    "a",
    { class: "brand", href: "#/runs", "aria-label": "bloctrain, runs" },
    h("span", { class: "logo", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    "bloctrain",
  ),
  h("nav", { "aria-label": "Pages" }, links),
  h("span", { class: "grow" }),
  light,
  role,
  out,
  theme,
);

/** The page that the address names. */
function route() {
  const [path, id] = location.hash.replace(/^#\/?/, "").split("/");
  return path === "run" && id
    ? { page: run, path: "runs", id: decodeURIComponent(id) }
    : (PAGES.find((page) => page.path === path) ?? PAGES[0]);
}

function open() {
  leave?.();
  leave = null;
  const { page, path, id, title } = route();
  links.forEach((link, index) => {
    if (PAGES[index].path === path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  frame.title(title ?? id);
  show(banner, false);
  const room = h("div", { class: "page" });
  put(main, room);
  scrollTo(0, 0);
  leave = page(room, frame, id);
}

/** Asks who looks; whoever is not known signs in. */
async function begin() {
  leave?.();
  leave = null;
  try {
    me = await session();
  } catch {
    frame.status("waiting");
    setTimeout(begin, 2000);
    return;
  }
  // Nobody that is known.
  if (!me.role) me = null;
  document.body.classList.toggle("signed-out", !me);
  show(banner, false);
  show(out, Boolean(me?.protected));
  say(role, me ? (me.protected ? me.role : "") : "");
  if (me) return open();
  frame.title("Sign in");
  put(
    main,
    signIn(async (token) => {
      await login(token);
      await begin();
    }),
  );
}

addEventListener("hashchange", () => {
  if (!me) return;
  open();
  main.focus({ preventScroll: true });
});
begin();
