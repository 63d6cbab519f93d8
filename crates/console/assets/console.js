// Keeps `[data-live]` elements up to date: the page is loaded again, and what is inside them replaced. Without scripts, a page is
// as new as its last load.
"use strict";

const every = Number(document.getElementById("main")?.dataset.every) || 5000;

function busy(element) {
  const active = document.activeElement;
  return element.contains(active) && active.matches("input, select, textarea");
}

// What people opened stays open, and what they stand on keeps the focus.
function replace(old, fresh) {
  const open = new Set([...old.querySelectorAll("details[open][id]")].map((it) => it.id));
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceChildren(...fresh.childNodes);
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function refresh() {
  const live = [...document.querySelectorAll("[data-live]")];
  if (live.length === 0) return;
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const element of live) {
        const other = fresh.getElementById(element.id);
        if (other && !busy(element)) replace(element, other);
      }
      document.documentElement.classList.remove("stale");
    } catch {
      // The console is gone: what is shown is old, and looks so.
      document.documentElement.classList.add("stale");
    }
  }
  setTimeout(refresh, every);
}

setTimeout(refresh, every);
