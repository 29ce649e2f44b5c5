// A token for a session.

import { h, say } from "../dom.js";

export function signIn(begin) {
  const problem = h("p", { class: "problem", role: "alert" });
  const token = h("input", {
    type: "password",
    id: "token",
    name: "token",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
    "aria-describedby": "token-help",
  });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const form = h(
    "form",
    { class: "card sign-in", onsubmit: submit },
    h("h1", {}, "Sign in"),
    h("label", { for: "token" }, "Access token"),
    token,
    h(
      "p",
      { class: "muted", id: "token-help" },
      "A viewer's or an operator's token of this coordinator, as in ",
      h("code", {}, "BLOCTRAIN_TOKEN"),
      ". It is not kept: this browser gets a cookie that holds for a day.",
    ),
    problem,
    button,
  );

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    say(problem, "");
    try {
      await begin(token.value);
    } catch (refused) {
      say(problem, refused.message);
      token.select();
    }
    button.disabled = false;
  }
  setTimeout(() => token.focus());
  return form;
}
