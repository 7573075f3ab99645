// Sort a table by the column that was clicked: up, down, then in the first order. Cells without a number come last.
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

const make = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
// A long table gets a search field, a choice of columns, and a button that shows the rows that only say "equal".
for (const table of document.querySelectorAll("table.searchable")) {
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
  const name = table.parentElement.getAttribute("aria-label");
  const quiet = rows.filter((row) => row.classList.contains("quiet"));
  const words = rows.map((row) => row.textContent.toLowerCase());
  const field = make("input", { type: "search", placeholder: "Search the rows", ariaLabel: `Search ${name}` });
  let folded = quiet.length > 0;
  const fold = make("button", { type: "button" });
  const show = () => {
    const wanted = field.value.toLowerCase();
    rows.forEach((row, place) => {
      row.hidden = wanted ? !words[place].includes(wanted) : folded && row.classList.contains("quiet");
    });
    fold.textContent = folded ? `Show ${quiet.length} more rows without a difference` : "Fold rows without a difference";
  };
  field.addEventListener("input", show);
  fold.addEventListener("click", () => { folded = !folded; show(); });
  addEventListener("beforeprint", () => { folded = false; show(); });
  const choice = make("fieldset", {}, make("legend", { textContent: "Columns" }), ...heads.map((head, column) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      [head, ...rows.map((row) => row.cells[column])].forEach((cell) => { cell.hidden = !box.checked; });
    });
    return make("label", {}, box, ` ${head.textContent}`);
  }));
  table.parentElement.before(make("div", { className: "tools" }, field, ...(quiet.length ? [fold] : []), choice));
  show();
}
// A line to paste gets a button that copies it. Without the clipboard, which some viewers forbid, it selects the line.
for (const line of document.querySelectorAll(".problems pre")) {
  const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
  const tell = (text) => {
    button.textContent = text;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  const select = () => { getSelection().selectAllChildren(line); tell("Selected"); };
  button.addEventListener("click", () => {
    if (!navigator.clipboard) return select();
    navigator.clipboard.writeText(line.textContent).then(() => tell("Copied"), select);
  });
  const box = make("div", { className: "paste" });
  line.before(box);
  box.append(line, button);
}
// On a narrow screen a plot is wider than its box: show the first failure.
for (const box of document.querySelectorAll("figure .scroll")) {
  const failure = box.querySelector(".failed-at");
  if (failure) box.scrollLeft += failure.getBoundingClientRect().left - box.getBoundingClientRect().left - box.clientWidth / 2;
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
