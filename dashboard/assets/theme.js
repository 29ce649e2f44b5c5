// The theme before anything is drawn, so that nothing flashes: what was chosen, else what the system says.
(() => {
  const chosen = () => {
    try {
      return localStorage.getItem("bloctrain-theme");
    } catch {
      return null;
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const theme = chosen() ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    dispatchEvent(new CustomEvent("theme", { detail: theme }));
  };
  system.addEventListener("change", apply);
  window.bloctrainTheme = {
    toggle() {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("bloctrain-theme", next);
      } catch {
        /* it holds for this view only */
      }
      document.documentElement.dataset.theme = next;
      dispatchEvent(new CustomEvent("theme", { detail: next }));
    },
  };
  apply();
})();
