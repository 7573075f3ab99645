// Sorts a table by the column that was clicked: up, down, then as it was. What has no number stands last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], original = [...body.rows];
  const text = (row, column) => row.cells[column].title || row.cells[column].textContent;
  const number = (row, column) => {
    const word = text(row, column).replaceAll(",", "");
    return word === "inf" ? Infinity : parseFloat(word);
  };
  const compare = (column, numeric, sign) => (a, b) => {
    if (!numeric) return sign * text(a, column).localeCompare(text(b, column), "en", { numeric: true });
    const x = number(a, column), y = number(b, column);
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return x === y ? 0 : sign * (x < y ? -1 : 1);
  };
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const next = { ascending: "descending", descending: "none" }[head.ariaSort] || "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1, numeric = head.classList.contains("number");
    body.append(...(next === "none" ? original : [...original].sort(compare(column, numeric, sign))));
  }));
}
