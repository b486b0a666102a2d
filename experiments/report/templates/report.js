"use strict";
// The page works without this script: it adds sorting, a filter, the choice of colours and keyboard support.
const root = document.documentElement;
const themeKey = "wardround-theme";
function storedTheme() {
  try { return localStorage.getItem(themeKey) || ""; } catch { return ""; }
}
if (storedTheme()) root.dataset.theme = storedTheme();

function each(selector, action, within = document) {
  Array.from(within.querySelectorAll(selector)).forEach(action);
}

function addThemeChoice() {
  const choice = document.getElementById("theme");
  choice.closest("p").hidden = !CSS.supports("color", "light-dark(#000, #fff)");
  choice.value = storedTheme();
  choice.addEventListener("change", () => {
    if (choice.value) root.dataset.theme = choice.value;
    else delete root.dataset.theme;
    try { localStorage.setItem(themeKey, choice.value); } catch { /* without storage, the choice lasts until the page closes */ }
  });
}

function followContents() {
  const part = document.querySelector("nav details");
  const narrow = matchMedia("(max-width: 62rem)");
  const update = () => { part.open = !narrow.matches; };
  update();
  narrow.addEventListener("change", update);
  const bar = document.querySelector(".bar");
  const measure = () => { if (bar) root.style.setProperty("--bar", `${bar.offsetHeight}px`); };
  measure();
  addEventListener("resize", measure);
  const links = new Map();
  each("nav li a", (link) => links.set(link.hash.slice(1), link));
  const seen = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    each("nav [aria-current]", (link) => link.removeAttribute("aria-current"));
    const here = Array.from(links.keys()).filter((id) => seen.has(id)).pop();
    if (here) links.get(here).setAttribute("aria-current", "location");
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));
}

function addHospitalFilter() {
  const box = document.getElementById("find");
  if (!box || "few" in box.dataset) return;
  box.closest("p").hidden = false;
  const entries = Array.from(document.querySelectorAll("nav .sites li"));
  box.addEventListener("input", () => {
    const query = box.value.trim().toLocaleLowerCase();
    const matches = (item) => item.dataset.hospital.toLocaleLowerCase().includes(query);
    each("[data-hospital]", (item) => item.classList.toggle("filtered", !matches(item)));
    const left = entries.filter(matches).length;
    document.querySelector("nav .matches").textContent = query ? `${left} of ${entries.length} shown` : "";
  });
}

function makeSortable(table) {
  const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
  const body = table.tBodies[0];
  const original = Array.from(body.rows);
  heads.forEach((head, column) => {
    // Not a <button>: its text is missing where a browser repeats the head on the next printed page.
    const button = document.createElement("span");
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      button.click();
    });
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const next = { null: "ascending", ascending: "descending", descending: null }[before];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const key = (row) => {
        const cell = row.cells[column];
        return "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent.trim();
      };
      const rows = Array.from(original);
      if (next) {
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((left, right) => {
          const a = key(left), b = key(right);
          if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
          if (typeof a === "number" && typeof b === "number") return sign * (a - b);
          return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
        });
      }
      body.append(...rows);
    });
  });
}

// The matrix is one stop of the Tab key; arrow keys move within it, and the current cell is described in the line above.
function makeNavigable(table) {
  const line = table.closest("section").querySelector(".readout");
  const cells = () => Array.from(table.querySelectorAll("tbody tr:not(.filtered), tfoot tr"), (row) => Array.from(row.querySelectorAll("td")));
  const all = Array.from(table.querySelectorAll("td[data-hint]"));
  const show = (cell) => { line.textContent = cell.dataset.hint; };
  all.forEach((cell, index) => {
    cell.tabIndex = index ? -1 : 0;
    cell.addEventListener("mouseenter", () => show(cell));
    cell.addEventListener("focus", () => {
      all.forEach((other) => { other.tabIndex = other === cell ? 0 : -1; });
      show(cell);
    });
  });
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  table.addEventListener("keydown", (event) => {
    const move = moves[event.key], from = event.target.closest("td");
    if (!move || !from) return;
    event.preventDefault();
    const rows = cells(), at = rows.findIndex((row) => row.includes(from));
    rows[at + move[0]]?.[rows[at].indexOf(from) + move[1]]?.focus();
  });
}

// The reader moves the threshold: the counts of each hospital at every step are in the page.
function addThresholdView() {
  const part = document.querySelector(".threshold");
  if (!part) return;
  const counts = JSON.parse(part.dataset.counts);
  const slider = part.querySelector("input");
  const rows = Array.from(part.querySelectorAll("tbody tr, tfoot tr"));
  const parts = [...counts.rows, counts.pooled];
  const number = (n) => n.toLocaleString("en-US");
  const fill = (cell, value, text, below) => {
    cell.dataset.value = value;
    cell.firstChild.textContent = text;
    if (below !== undefined) cell.querySelector(".interval").textContent = below;
  };
  const update = () => {
    const at = Number(slider.value);
    rows.forEach((row, index) => {
      const { total, events, hits, wrong } = parts[index];
      const cells = row.querySelectorAll("td");
      const flagged = hits[at] + wrong[at];
      const benefit = total ? 100 * (hits[at] - counts.odds[at] * wrong[at]) / total : 0;
      fill(cells[0], flagged, number(flagged), `${total ? (100 * flagged / total).toFixed(1) : "n/a"} of 100`);
      fill(cells[1], hits[at], number(hits[at]));
      fill(cells[2], wrong[at], number(wrong[at]));
      fill(cells[3], events - hits[at], number(events - hits[at]), `of ${number(events)}`);
      fill(cells[4], benefit, `${benefit < 0 ? "" : "+"}${benefit.toFixed(2)}`);
    });
    const { events, hits, wrong } = counts.pooled;
    const words = `${number(events - hits[at])} of ${number(events)} missed, ${number(wrong[at])} flagged wrongly`;
    part.querySelector("output").textContent = counts.labels[at];
    slider.setAttribute("aria-valuetext", `${counts.labels[at]}: ${words}`);
    part.querySelector(".threshold-words").textContent = words + (at === counts.used ? " (in use)" : "");
  };
  part.querySelector(".slider").hidden = false;
  slider.addEventListener("input", update);
  update();
}

// In a list of runs, the two chosen ones are shown side by side.
function addRunChoice() {
  const boxes = Array.from(document.querySelectorAll("input.chosen"));
  if (!boxes.length) return;
  const table = document.querySelector(".pair-table"), line = document.querySelector(".pair-words");
  const make = (name, text) => {
    const part = document.createElement(name);
    part.textContent = text;
    return part;
  };
  const update = () => {
    const chosen = boxes.filter((box) => box.checked);
    for (const box of boxes) box.disabled = chosen.length === 2 && !box.checked;
    table.hidden = chosen.length !== 2;
    line.textContent = table.hidden ? `${chosen.length} of 2 runs chosen.` : chosen.map((box) => box.dataset.run).join(" and ");
    if (table.hidden) return;
    const [one, two] = chosen.map((box) => new Map(JSON.parse(box.dataset.facts)));
    chosen.forEach((box, index) => { table.tHead.rows[0].cells[index + 1].textContent = box.dataset.run; });
    table.tBodies[0].replaceChildren(...Array.from(new Set([...one.keys(), ...two.keys()]), (key) => {
      const row = document.createElement("tr"), head = make("th", key);
      head.scope = "row";
      row.append(head, make("td", one.get(key) ?? "–"), make("td", two.get(key) ?? "–"));
      return row;
    }));
  };
  boxes.forEach((box) => box.addEventListener("change", update));
}

// A term's entry in the glossary is shown while the pointer or the keyboard is on the term; Escape hides it.
function addExplanations() {
  const box = document.createElement("div");
  box.className = "explain";
  box.id = "explain";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  let owner = null, marked = null;
  const hide = () => {
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    box.hidden = true;
  };
  const show = (event) => {
    const part = event.target.closest?.(".term, [role=button]");
    const term = part && (part.matches(".term") ? part : event.type === "focusin" && part.querySelector(".term"));
    const entry = term && document.getElementById(`term-${term.dataset.term}`);
    if (!entry) return;
    hide();
    owner = part;
    const head = document.createElement("strong");
    head.textContent = entry.children[0].textContent;
    box.replaceChildren(head, entry.children[1].textContent);
    box.hidden = false;
    owner.setAttribute("aria-describedby", box.id);
    marked = term;
    place();
  };
  const place = () => {
    if (!owner) return;
    const at = marked.getBoundingClientRect(), size = box.getBoundingClientRect();
    const below = at.bottom + 6 + size.height < innerHeight;
    box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 16))}px`;
    box.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - size.height - 6)}px`;
  };
  document.addEventListener("mouseover", show);
  document.addEventListener("focusin", show);
  const leave = (event) => { if (owner && owner.contains(event.target)) hide(); };
  document.addEventListener("mouseout", leave);
  document.addEventListener("focusout", leave);
  addEventListener("scroll", place, { passive: true, capture: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
}

// A table that needs no scrolling needs no stop of the Tab key.
function updateTabStops() {
  each(".scroll", (part) => {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  });
}

addEventListener("DOMContentLoaded", () => {
  addThemeChoice();
  followContents();
  addHospitalFilter();
  each("table.sortable", makeSortable);
  each("table.matrix", makeNavigable);
  addThresholdView();
  addRunChoice();
  addExplanations();
  updateTabStops();
  addEventListener("resize", updateTabStops);
});

// Printing opens all details elements and closes them again afterwards.
const opened = [];
addEventListener("beforeprint", () => {
  each("details:not([open])", (part) => {
    part.open = true;
    opened.push(part);
  });
});
addEventListener("afterprint", () => {
  for (const part of opened.splice(0)) part.open = false;
});
