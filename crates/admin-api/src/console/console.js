// Makes pages handier; each works without this.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent += " ✓";
    } catch {
      // The field is selected; the keyboard copies it.
    }
  });
}

const live = document.querySelector("[data-live]");
if (live) {
  const renew = async () => {
    if (!document.hidden && !live.contains(document.activeElement)) {
      try {
        const response = await fetch(location.pathname + location.search, { redirect: "error" });
        if (response.ok) {
          const page = new DOMParser().parseFromString(await response.text(), "text/html");
          const fresh = page.querySelector("[data-live]");
          if (fresh) live.replaceChildren(...fresh.childNodes);
        }
      } catch {
        // The next turn tries again.
      }
    }
    setTimeout(renew, Number(live.dataset.live));
  };
  setTimeout(renew, Number(live.dataset.live));
}
