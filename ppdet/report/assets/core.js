"use strict";
// What every page shares: data, theme, tables, charts. Runs from file://, without any request.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
function shape(tag, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  return node;
}

// Theme: the system's until the reader chooses. Paper is always light.
const redraws = [];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  for (const redraw of redraws) redraw();
}
const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
const currentTheme = () => chosen || (dark.matches ? "dark" : "light");
document.documentElement.dataset.theme = currentTheme();
dark.addEventListener("change", () => setTheme(currentTheme()));
let unfolded = []; // what is folded on the screen; of the tables of values paper has the charts
addEventListener("beforeprint", () => {
  unfolded = $$("details:not(.values):not([open])");
  for (const details of unfolded) details.open = true;
  setTheme("light");
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
  setTheme(currentTheme());
});
$("#theme").addEventListener("click", () => {
  chosen = currentTheme() === "dark" ? "light" : "dark";
  setTheme(chosen);
});

function save(name, type, text) {
  const link = element("a", {href: URL.createObjectURL(new Blob([text], {type})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Tables with class "sortable": a click on a column sorts, a second one turns it round. Cells may say their value
// in data-value. A filter and a CSV button of the same panel belong to it.
const cellValue = cell => cell.dataset.value ?? cell.textContent.trim();
function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, index) => ({row, index, value: cellValue(row.cells[column])}));
  const numeric = rows.every(({value}) => value === "" || !Number.isNaN(Number(value)));
  const empty = ({value}) => value === "";
  rows.sort((a, b) => {
    if (empty(a) !== empty(b)) return empty(a) ? 1 : -1;
    const order = numeric ? Number(a.value) - Number(b.value) : a.value.localeCompare(b.value, undefined, {numeric: true});
    return direction * order || a.index - b.index;
  });
  body.append(...rows.map(({row}) => row));
  $$("thead th", table).forEach((head, i) => head.removeAttribute("aria-sort"));
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}
function tableCsv(table) {
  const quote = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  return [...table.rows].map(row => [...row.cells].map(cell => quote(cellValue(cell))).join(",")).join("\n") + "\n";
}
for (const table of $$("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = element("button", {type: "button", text: head.textContent.trim(), title: "Sort by this column"});
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.classList.contains("text") ? 1 : -1;
      sortTable(table, column, now === null ? first : now === "ascending" ? -1 : 1);
    });
    head.replaceChildren(button);
  });
  const panel = table.closest(".panel");
  const filter = $("input[type=search]", panel);
  if (filter) filter.addEventListener("input", () => {
    const text = filter.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(text);
  });
  const csv = $("button.csv", panel);
  if (csv) csv.addEventListener("click", () => save(csv.dataset.name, "text/csv", tableCsv(table)));
}
for (const button of $$("button.json")) {
  button.addEventListener("click", () => save(button.dataset.name, "application/json", JSON.stringify(DATA.summary, null, 1)));
}
for (const button of $$("button.copy")) {
  button.addEventListener("click", async () => {
    const text = $(button.dataset.from).textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren($(button.dataset.from)); }
  });
}

// The values behind a chart, for those who cannot see it: at most 21 rows, evenly spread, the last one among them.
const VALUE_ROWS = 21;
function fillValues(values, chart, show) {
  const most = Math.min(VALUE_ROWS, chart.x.length);
  const rows = Array.from({length: most}, (_, i) => Math.round(i * (chart.x.length - 1) / Math.max(most - 1, 1)));
  const showX = chart.xShow ?? (x => String(x));
  const head = [chart.xName ?? chart.xLabel, ...chart.series.map(one => one.label)];
  values.replaceChildren(element("summary", {text: "Values as a table"}), element("div", {class: "scroll", tabindex: "0", role: "region",
    "aria-label": chart.describe}, element("table", {},
      element("thead", {}, element("tr", {}, ...head.map(text => element("th", {scope: "col", text})))),
      element("tbody", {}, ...rows.map(row => element("tr", {}, element("th", {scope: "row", text: showX(chart.x[row])}),
        ...chart.series.map(one => element("td", {text: show(one.values[row])}))))))));
}

// Line charts. `draw` returns {x, series: [{label, values, color, dash, width}], ...}; it runs anew with every theme.
function lineChart(host, draw) {
  let plot = null;
  const values = element("details", {class: "values"});
  host.after(values);
  function redraw() {
    const chart = draw();
    if (plot) plot.destroy();
    host.replaceChildren();
    values.hidden = !chart || !chart.series.length;
    if (!chart || !chart.series.length) {
      host.append(element("p", {class: "empty-note", text: "Nothing to draw."}));
      return;
    }
    const digits = chart.digits ?? 3;
    const show = value => value == null ? "–" : Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(2) : value.toFixed(digits);
    const axis = {stroke: css("--muted"), grid: {stroke: css("--line"), width: 1}, ticks: {stroke: css("--line"), width: 1},
      font: "12px system-ui, sans-serif"};
    const options = {
      width: Math.max(host.clientWidth, 240), height: chart.height ?? 260,
      cursor: {points: {size: 6}, drag: {x: true, y: false}, sync: chart.sync ? {key: chart.sync} : undefined},
      scales: {x: {time: false, range: chart.xRange}, y: {distr: chart.log ? 3 : 1, range: chart.yRange}},
      axes: [{...axis, label: chart.xLabel, labelFont: "12px system-ui, sans-serif", labelSize: 20, size: 34},
             {...axis, size: 58, label: chart.yLabel, labelFont: "12px system-ui, sans-serif", labelSize: 20}],
      series: [{label: chart.xName ?? chart.xLabel, value: (_, v) => v == null ? "–" : chart.xShow ? chart.xShow(v) : show(v)},
        ...chart.series.map(one => ({label: one.label, stroke: css(one.color), width: one.width ?? 2, dash: one.dash,
          spanGaps: true, points: {show: one.points ?? false, size: 6, fill: css(one.color)}, value: (_, v) => show(v)}))],
      legend: {markers: {width: 0, fill: (_, i) => i ? css(chart.series[i - 1].color) : "transparent"}},
      hooks: {draw: chart.mark ? [chart.mark] : []},
    };
    plot = new uPlot(options, [chart.x, ...chart.series.map(one => one.values)], host);
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", chart.describe);
    fillValues(values, chart, show);
  }
  redraw();
  redraws.push(redraw);
  let width = host.clientWidth;
  new ResizeObserver(() => {
    if (plot && host.clientWidth && host.clientWidth !== width) {
      width = host.clientWidth;
      plot.setSize({width: Math.max(width, 240), height: plot.height});
    }
  }).observe(host);
  return redraw;
}
const COLORS = ["--s1", "--s2", "--s3", "--s4", "--s5", "--s6"];
