"use strict";
// Sorts the countries by the column whose heading is clicked; what is not known stays at the end.
const table = document.getElementById("countries");
for (const button of table?.querySelectorAll("th button") ?? []) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const isNumber = heading.classList.contains("number");
    const falls = heading.ariaSort ? heading.ariaSort === "ascending" : isNumber;
    const by = (row) => row.cells[heading.cellIndex].dataset.by;
    const compare = (a, b) => (isNumber ? a - b : a.localeCompare(b, "en"));
    const rows = [...table.tBodies[0].rows].sort((a, b) =>
      (by(a) === "") - (by(b) === "") || (falls ? compare(by(b), by(a)) : compare(by(a), by(b))));
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.ariaSort = falls ? "descending" : "ascending";
    table.tBodies[0].append(...rows);
  });
}
// Shows the countries whose name or code has what is typed.
document.getElementById("find")?.addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const row of table.tBodies[0].rows)
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
});
