"use strict";
// Shows the rows that have all words of the search, in any lane.
const search = document.getElementById("search");
const count = document.getElementById("count");
const rows = [...document.querySelectorAll("tbody tr")];
const texts = rows.map((row) => row.textContent.toLowerCase());

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let n = 0;
  rows.forEach((row, i) => {
    row.hidden = !words.every((word) => texts[i].includes(word));
    n += row.hidden ? 0 : 1;
  });
  count.textContent = `${n} of ${rows.length} rows`;
}

search.addEventListener("input", show);
show();
