// The page's beginning: the parts that are always there, then the view that the address asks for.

import { whenUnauthenticated } from "./api.js";
import { askForKey, keyRefused } from "./apikey.js";
import { tickConnection } from "./connection.js";
import { flow } from "./flow.js";
import { startKeys } from "./keys.js";
import { list } from "./list.js";
import { overview } from "./overview.js";
import { leave, refresh, startRouter } from "./router.js";
import { nothing } from "./states.js";
import { startTheme } from "./theme.js";
import { tick } from "./time.js";

const main = document.getElementById("main");

startTheme();
startKeys();
whenUnauthenticated(keyRefused);
document.getElementById("key-button").addEventListener("click", () => askForKey());
// A link to #main would be an address of the router's.
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", (event) => { if (event.persisted) refresh(); });
setInterval(() => { tick(); tickConnection(); }, 1000);

startRouter(main, [
  [/^\/$/, "overview", overview],
  [/^\/flows$/, "list", list],
  [/^\/flows\/([0-9a-fA-F-]{36})$/, "flow", flow],
  [/^/, "none", nothing],
], (view) => {
  main.removeAttribute("aria-busy");
  for (const entry of document.querySelectorAll("[data-view]")) {
    const here = entry.dataset.view === view || (view === "flow" && entry.dataset.view === "list");
    if (here) entry.setAttribute("aria-current", "page");
    else entry.removeAttribute("aria-current");
  }
});
