// The page is whole without this script; it adds search, sorting, copying, theme and pictures.
"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, text = "", attributes = {}) => {
  const svg = ["svg", "path", "text"].includes(tag);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const root = document.documentElement;
const folds = all("details.fold");

// Theme, folding and printing.
const dark = matchMedia("(prefers-color-scheme: dark)");
const actions = {
  theme() {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  },
  fold(button) {
    const open = folds.every(fold => !fold.open);
    for (const fold of folds) fold.open = open;
    button.textContent = open ? "Fold all" : "Unfold all";
  },
};
for (const button of all("[data-do]"))
  button.addEventListener("click", () => actions[button.dataset.do](button));
all(".tools").forEach(tools => (tools.hidden = false));

const unfold = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const fold = target && target.closest("details.fold");
  if (fold) fold.open = true;
};
addEventListener("hashchange", unfold);
all("nav a").forEach(link => link.addEventListener("click", () => setTimeout(unfold)));
unfold();
let shut = [];
addEventListener("beforeprint", () => {
  shut = all("details:is(.fold, .evidence, .more-of):not([open])");
  for (const fold of shut) fold.open = true;
});
addEventListener("afterprint", () => { for (const fold of shut) fold.open = false; });

// Copying code; a page in a frame may not write to the clipboard, selecting still works there.
const copy = async (pre, button) => {
  try {
    await navigator.clipboard.writeText(pre.textContent);
  } catch {
    getSelection().selectAllChildren(pre);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
};
for (const button of all(".copy")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button.nextElementSibling, button));
}

// The layer table.
const table = document.getElementById("layer-table");
const rows = table ? [...table.tBodies[0].rows] : [];
const order = new Map(rows.map((row, i) => [row, i]));
const cell = (row, column) =>
  column ? row.cells[column].textContent : row.querySelector("summary").textContent;
const value = text => {
  const plain = text.replaceAll(",", "");
  return /^-?[\d.]/.test(plain) ? parseFloat(plain) : NaN;
};
const close = () => all("tr.more").forEach(more => more.previousElementSibling.querySelector("details").open = false);

const sort = (heading, column) => {
  const sorted = heading.getAttribute("aria-sort");
  const next = { ascending: "descending", descending: "none" }[sorted] || "ascending";
  all("th[aria-sort]", table).forEach(other => other.removeAttribute("aria-sort"));
  if (next !== "none") heading.setAttribute("aria-sort", next);
  const sign = next === "descending" ? -1 : 1;
  const keys = new Map(rows.map(row => {
    const text = cell(row, column);
    return [row, column === 0 || column === 1 || column === 2 ? text : value(text)];
  }));
  const missing = key => key === "–" || Number.isNaN(key);
  const compare = (a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (next === "none") return order.get(a) - order.get(b);
    // What was not measured comes last, whichever way.
    if (missing(x) || missing(y)) return missing(x) - missing(y) || order.get(a) - order.get(b);
    const way = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return sign * way || order.get(a) - order.get(b);
  };
  close();
  table.tBodies[0].append(...[...rows].sort(compare));
};

const search = () => {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  close();
  for (const row of rows) {
    const text = [0, 1, 2].map(column => cell(row, column)).join(" ").toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
  count();
};
const count = () => {
  const shown = rows.filter(row => !row.hidden && getComputedStyle(row).display !== "none").length;
  document.getElementById("shown").textContent = `${shown} of ${rows.length} shown`;
};

// Numbers of a row: written as text with tabs, opened as tables and histograms.
const grid = lines => {
  const element = make("table");
  lines.forEach((line, i) => {
    const row = element.createTHead && (i ? (element.tBodies[0] || element.createTBody()) : element.createTHead()).insertRow();
    line.split("\t").forEach((text, j) => {
      const scope = i ? "row" : "col";
      row.append(i && j ? make("td", text) : make("th", text, { scope }));
    });
  });
  return element;
};
const bars = line => {
  const [role, from, shares] = line.split("\t");
  const first = parseInt(from.slice(from.indexOf("^") + 1), 10);
  const counts = shares.split(" ").map(Number);
  const [most, width] = [Math.max(...counts), 240 / Math.max(counts.length, 8)];
  const top = first + counts.length;
  const power = exponent => {
    const size = 2 ** exponent;
    return size >= 1e-3 && size < 1e5 ? String(Number(size.toPrecision(2))) : size.toExponential(1);
  };
  const label = `${role}: magnitudes from ${power(first)} to ${power(top)}`;
  const svg = make("svg", "", { viewBox: "0 0 240 92", role: "img", "aria-label": label });
  const d = counts.map((n, i) => `M${(i * width).toFixed(1)} 72v${(-68 * n / most).toFixed(1)}h${(width * 0.9).toFixed(1)}V72z`);
  svg.append(make("path", "", { class: "b s0", d: d.join("") }), make("path", "", { class: "g", d: "M0 72.5h240" }));
  svg.append(make("text", power(first), { x: 0, y: 86 }));
  svg.append(make("text", power(top), { x: Math.max(counts.length * width, 60), y: 86, "text-anchor": "end" }));
  const figure = make("figure");
  figure.append(make("figcaption", `|${role}|`, { class: "muted" }), svg);
  return figure;
};
const curve = line => {
  const values = line.split(" ").map(value);
  const logs = values.map(v => (v > 0 ? Math.log10(v) : null));
  const known = logs.filter(v => v !== null);
  const [low, span] = [Math.min(...known), Math.max(Math.max(...known) - Math.min(...known), 0.5)];
  const label = `From ${values[0]} at the first step to ${values.at(-1)} at the last`;
  const svg = make("svg", "", { viewBox: "0 0 240 92", role: "img", "aria-label": label });
  const points = logs.map((v, i) => v === null ? "" : `L${(240 * i / Math.max(logs.length - 1, 1)).toFixed(1)} ${(74 - 66 * (v - low) / span).toFixed(1)}`);
  svg.append(make("path", "", { class: "l s0", d: points.join("").replace("L", "M") }));
  svg.append(make("text", label, { x: 0, y: 88 }));
  const figure = make("figure");
  figure.append(svg);
  return figure;
};
const opened = text => {
  const box = make("div", "", { tabindex: 0, role: "group", "aria-label": "Numbers of this layer" });
  for (const part of text.split("\n\n")) {
    const [title, ...lines] = part.split("\n");
    if (title.startsWith("statistics")) {
      box.append(grid([title, ...lines]));
      continue;
    }
    box.append(make("h3", title));
    const drawn = title.startsWith("histograms") ? bars : title.startsWith("rms of dL/dh") ? curve : null;
    const holder = make("div", "", drawn ? { class: "histograms" } : {});
    for (const line of lines) holder.append(drawn ? drawn(line) : make("p", line.replace("\t", ": ")));
    box.append(holder);
  }
  return box;
};
const toggle = details => {
  const row = details.closest("tr");
  if (row.nextElementSibling?.classList.contains("more")) row.nextElementSibling.remove();
  if (!details.open) return;
  const more = make("tr", "", { class: "more" });
  const holder = make("div");
  const place = make("td", "", { colspan: row.cells.length });
  const headings = [...table.tHead.rows[0].cells].map(heading => heading.textContent);
  const known = [...row.cells].map((one, i) => [headings[i], one.textContent]).slice(3);
  const sums = known.filter(([, text]) => text !== "–").map(pair => pair.join(" ")).join(" · ");
  if (sums) holder.append(make("p", sums));
  holder.append(opened(details.querySelector("pre").textContent));
  place.append(holder);
  more.append(place);
  row.after(more);
};
if (table) {
  table.addEventListener("toggle", event => toggle(event.target), true);
  for (const pre of table.getElementsByTagName("pre")) pre.hidden = true;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = make("button", heading.textContent, { type: "button" });
    heading.replaceChildren(button);
    button.addEventListener("click", () => sort(heading, column));
  });
  const box = document.getElementById("search");
  box.parentElement.hidden = false;
  document.getElementById("shown").hidden = false;
  box.addEventListener("input", search);
  box.form.addEventListener("submit", event => event.preventDefault());
  box.form.addEventListener("change", () => { close(); count(); });
  document.getElementById("shown").textContent = `${rows.length} of ${rows.length} shown`;
}
const reveal = index => {
  const row = rows[index];
  if (!row) return;
  row.hidden = false;
  const every = document.getElementById("state-all");
  if (every) every.checked = true;
  row.closest("details.fold").open = true;
  row.querySelector("details").open = true;
  row.scrollIntoView({ block: "center" });
  row.querySelector("summary").focus({ preventScroll: true });
  count();
};

// Values under the pointer, or walked through with the arrow keys.
const tip = document.getElementById("tip");
let lit = null;
const show = target => {
  if (lit) lit.classList.remove("on");
  lit = target;
  tip.hidden = !target;
  if (!target) return;
  const title = target.querySelector("title");
  if (title) {
    target.dataset.tip = title.textContent;
    title.remove();
  }
  target.classList.add("on");
  tip.textContent = target.dataset.tip;
  place();
};
const place = () => {
  if (!lit) return;
  const [spot, own] = [lit.getBoundingClientRect(), tip.getBoundingClientRect()];
  const left = spot.x + spot.width / 2 - own.width / 2;
  const above = spot.y - own.height - 6;
  tip.style.left = `${Math.max(6, Math.min(left, innerWidth - own.width - 6))}px`;
  tip.style.top = `${above > 6 ? above : Math.max(6, Math.min(spot.y + 8, innerHeight - own.height - 6))}px`;
};
const hit = event => event.target.closest?.(".h");
document.addEventListener("pointerover", event => show(hit(event) || null));
document.addEventListener("click", event => {
  const row = hit(event)?.dataset.row;
  if (row !== undefined) reveal(Number(row));
});
addEventListener("scroll", place, { passive: true });
for (const scroll of all("figure > .scroll")) {
  scroll.addEventListener("keydown", event => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const targets = all(".h", scroll);
    const at = targets.indexOf(lit);
    if (event.key === "Escape") show(null);
    if (event.key === "Enter" && lit?.dataset.row) reveal(Number(lit.dataset.row));
    if (!move || !targets.length) return;
    event.preventDefault();
    show(targets[at < 0 ? (move > 0 ? 0 : targets.length - 1) : Math.max(0, Math.min(at + move, targets.length - 1))]);
  });
  scroll.addEventListener("blur", () => show(null));
}
