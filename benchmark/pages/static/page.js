"use strict";
// sorts by a click on a column's name, and hides the rows that the filters leave out; no library, no network
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const isNumber = head.classList.contains("number");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        // what was not measured comes last, whichever way round
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNumber ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
        return falls ? -order : order;
      });
      body.append(...rows);
    });
  });
}
const filters = document.querySelector("#filters");
if (filters) {
  const apply = () => {
    const words = filters.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const split = filters.elements.split.value;
    let shown = 0;
    for (const row of document.querySelector("#rows").tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!split || row.dataset.split === split)
        && (!filters.elements.valid.checked || row.dataset.valid === "true");
      row.hidden = !fits;
      shown += fits;
    }
    document.querySelector("#shown").textContent = `${shown} rows`;
  };
  filters.elements.further.addEventListener("input", () => {
    document.querySelector("#rows").classList.toggle("all", filters.elements.further.checked);
  });
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
const photoFilter = document.querySelector("#photo_filter");
if (photoFilter) {
  photoFilter.addEventListener("input", () => {
    const words = photoFilter.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const figure of document.querySelectorAll("figure[data-file]")) {
      figure.hidden = !words.every((word) => figure.dataset.file.toLowerCase().includes(word));
    }
  });
  photoFilter.addEventListener("submit", (event) => event.preventDefault());
}
document.documentElement.dataset.ready = "true";
