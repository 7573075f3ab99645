// Filters the tasks by status and by text; a status that is clicked again shows all.
for (const filters of document.querySelectorAll(".filters")) {
  const rows = [...document.querySelectorAll(".tasks tbody tr")], buttons = [...filters.querySelectorAll("button")];
  const field = filters.querySelector("input"), nothing = document.querySelector(".nothing");
  let status = "";
  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = (status && row.dataset.status !== status) || !words.every((word) => text.includes(word));
    }
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.status === status)));
    nothing.hidden = rows.some((row) => !row.hidden);
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    status = button.dataset.status === status ? "" : button.dataset.status;
    apply();
  }));
  field.addEventListener("input", apply);
  apply();
}
