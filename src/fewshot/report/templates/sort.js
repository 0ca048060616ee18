"use strict";
// Heads become buttons that sort their column: ascending, descending, as given. Without this script the tables are whole.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const given = [...body.rows];
  const said = document.createElement("p");
  said.className = "hidden";
  said.setAttribute("aria-live", "polite");
  table.parentElement.after(said);
  const heads = [...table.querySelectorAll("thead th[data-column]")];
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    const number = Number(text.replaceAll(",", ""));
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const column = Number(head.dataset.column);
      const order = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const next = order === undefined ? "ascending" : order;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const sign = next === "descending" ? -1 : 1;
      const keyed = given.map((row) => [value(row, column), row]);
      if (next) {
        head.setAttribute("aria-sort", next);
        table.dataset.sorted = "";
        // Empty cells stay last either way.
        keyed.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
      } else delete table.dataset.sorted;
      body.append(...keyed.map(([, row]) => row));
      said.textContent = next ? `Sorted by ${button.textContent}, ${next}.` : "Rows in their first order.";
    });
  }
}
