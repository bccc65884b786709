"use strict";
(() => {
  const form = document.getElementById("filters");
  const state = document.getElementById("filters-state");
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const parts = [...document.querySelectorAll("[data-needs]")];
  const apply = () => {
    const all = new Set(boxes.map((box) => box.value[0]));
    const chosen = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    /* A kind without a choice on this page hides nothing. */
    const isChosen = (value) => chosen.has(value) || !all.has(value[0]);
    for (const part of parts) {
      const words = part.dataset.needs.split(" ");
      const isShown = words.every((word) => word.split("|").some(isChosen));
      part.classList.toggle("filtered-out", !isShown);
    }
    const names = boxes.filter((box) => !box.checked).map((box) => box.parentNode.textContent.trim());
    state.textContent = names.length ? `hidden: ${names.join(", ")}` : "everything is shown";
  };
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => {
    for (const box of boxes) box.checked = true;
    apply();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("click", (event) => {
    const { choose, kind } = event.target.dataset;
    if (!choose) return;
    for (const box of boxes) {
      if (box.value.startsWith(kind)) box.checked = choose === "all";
    }
    apply();
  });
  form.hidden = false;
  apply();
})();
