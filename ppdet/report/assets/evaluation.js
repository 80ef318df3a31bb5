"use strict";
// The evaluation page: curves, confusion matrix, gallery.
const CLASSES = DATA.classes;
const BACKGROUND = CLASSES.length;
const nameOf = label => label === BACKGROUND ? "background" : CLASSES[label];
const percent = value => value == null ? "–" : (100 * value).toFixed(1);

// ---- Curves
const curveClass = $("#curve-class");
const recalls = Array.from({length: 101}, (_, i) => i / 100);
const redrawPr = lineChart($("#pr-chart"), () => {
  const key = curveClass.value;
  const series = Object.entries(DATA.precision).map(([overlap, table], i) => ({
    label: `IoU ${overlap}`, values: table[key], color: COLORS[i]})).filter(one => one.values);
  return {x: recalls, series, xLabel: "recall", yLabel: "precision", xRange: [0, 1], yRange: [0, 1.02], digits: 3,
    describe: `Precision against recall, ${curveClass.selectedOptions[0].text}: ` + series.map(one =>
      `${one.label}, precision ${percent(one.values[50])} % at recall 50 %`).join("; ")};
});
const redrawF1 = lineChart($("#f1-chart"), () => {
  const curve = DATA.thresholds[curveClass.value];
  const best = curve.best;
  return {x: recalls, xLabel: "score threshold", yLabel: "", xRange: [0, 1], yRange: [0, 1.02], digits: 3,
    series: [{label: "F1", values: curve.f1, color: "--s1", width: 2.5}, {label: "precision", values: curve.precision, color: "--s3"},
             {label: "recall", values: curve.recall, color: "--s2"}],
    mark: plot => {
      const x = plot.valToPos(best.threshold, "x", true), context = plot.ctx;
      context.save();
      context.strokeStyle = css("--muted"); context.setLineDash([4, 4]); context.beginPath();
      context.moveTo(x, plot.bbox.top); context.lineTo(x, plot.bbox.top + plot.bbox.height); context.stroke();
      context.restore();
    },
    describe: `F1, precision and recall against the score threshold; F1 is highest, ${best.f1.toFixed(3)}, at ${best.threshold}`};
});
function showBest() {
  const best = DATA.thresholds[curveClass.value].best;
  $("#best-point").textContent = best.objects === 0 ? "No objects of this class."
    : `Highest F1 ${best.f1.toFixed(3)} at threshold ${best.threshold}: precision ${percent(best.precision)} %, recall ${percent(best.recall)} % `
      + `(${best.correct} correct, ${best.wrong} wrong, ${best.missed} missed).`;
}
curveClass.addEventListener("change", () => { redrawPr(); redrawF1(); showBest(); });
showBest();

// ---- Confusion matrix
const matrix = $("#matrix");
const MOST = DATA.matrix.most;
const counts = new Map(DATA.matrix.cells.map(([row, column, count, cases]) => [`${row},${column}`, {count, cases}]));
const rowTotal = row => DATA.matrix.rows[row];
function matrixClasses() {
  const every = [...CLASSES.keys()];
  if ($("#matrix-all").checked || every.length <= MOST) return every;
  const busy = every.map(k => {
    let off = 0;
    for (const [key, {count}] of counts) {
      const [row, column] = key.split(",").map(Number);
      if (row !== column && (row === k || column === k)) off += count;
    }
    return {k, off};
  });
  return busy.sort((a, b) => b.off - a.off).slice(0, MOST).map(({k}) => k).sort((a, b) => a - b);
}
function drawMatrix() {
  const shown = [...matrixClasses(), BACKGROUND];
  const share = $("#matrix-share").checked;
  const heading = k => k === BACKGROUND ? "missed" : nameOf(k);
  const head = element("tr", {}, element("td"), ...shown.map(k => element("th", {scope: "col"}, element("span", {text: heading(k), title: heading(k)}))));
  const body = shown.map(row => element("tr", {}, element("th", {scope: "row", text: nameOf(row), title: nameOf(row)}), ...shown.map(column => {
    const cell = counts.get(`${row},${column}`);
    if (!cell) return element("td", {class: "empty", text: "·"});
    const part = rowTotal(row) ? cell.count / rowTotal(row) : 0;
    const text = share ? (100 * part < 1 ? "<1" : String(Math.round(100 * part))) : String(cell.count);
    const what = describeCell(row, column, cell.count);
    const button = element("button", {type: "button", "aria-pressed": "false", "aria-label": `${what} (${percent(part)} % of the row)`,
      title: what, text, "data-row": row, "data-column": column});
    button.style.background = `rgba(${css("--heat")}, ${0.08 + 0.85 * part})`;
    if (part > 0.55) button.classList.add("strong");
    button.addEventListener("click", () => chooseCell(row, column, what));
    return element("td", {}, button);
  })));
  matrix.replaceChildren(element("caption", {text: `Rows: annotated class. Columns: detected class. ${share ? "Per cent of the row" : "Counts"}, score ≥ ${DATA.matrix.threshold}, IoU ≥ 0.5.`}),
    element("thead", {}, head), element("tbody", {}, ...body));
  markCell();
}
const describeCell = (row, column, count) => row === BACKGROUND ? `${count} detections of ${nameOf(column)} on background`
  : column === BACKGROUND ? `${count} ${nameOf(row)} missed` : `${count} ${nameOf(row)} detected as ${nameOf(column)}`;
let chosenCell = null;
function markCell() {
  for (const button of $$("button", matrix)) {
    button.setAttribute("aria-pressed", String(chosenCell === `${button.dataset.row},${button.dataset.column}`));
  }
}
function chooseCell(row, column, what) {
  chosenCell = `${row},${column}`;
  markCell();
  const {cases} = counts.get(chosenCell);
  showView({title: what, cell: true, cases});
  $("#gallery").scrollIntoView();
  $("#gallery-title").focus({preventScroll: true});
}
for (const id of ["#matrix-all", "#matrix-share"]) $(id).addEventListener("change", drawMatrix);
drawMatrix();
redraws.push(drawMatrix);
const mixups = DATA.matrix.cells.filter(([row, column]) => row !== column && row !== BACKGROUND && column !== BACKGROUND)
  .sort((a, b) => b[2] - a[2]).slice(0, 10);
$("#mixups").replaceChildren(...mixups.map(([row, column, count]) => element("li", {}, element("button", {type: "button",
  onclick: () => chooseCell(row, column, describeCell(row, column, count))},
  element("span", {text: `${nameOf(row)} → ${nameOf(column)}`}), element("span", {text: count})))));
if (!mixups.length) $("#mixups").append(element("li", {class: "note", text: "No object is taken for another class."}));

// ---- Gallery. An image: {file, width, height, source, truth: [[x, y, w, h, label, crowd, mask]], found: [[x, y, w, h, label,
// score, object or -1, state, mask]]}, in pixels of the thumbnail; states: 0 correct, 1 wrong, 2 ignored.
const threshold = $("#threshold");
const STATES = ["correct", "wrong", "ignored"];
let view = {title: "", cases: []};
let limit = 24;
function tally(image, least) {
  const seen = new Set();
  let correct = 0, wrong = 0;
  for (const [, , , , , score, thing, state] of image.found) {
    if (score < least) continue;
    if (state === 0) { correct += 1; seen.add(thing); } else if (state === 1) wrong += 1;
  }
  const missed = image.truth.filter((one, index) => !one[5] && !seen.has(index)).length;
  return {correct, wrong, missed, seen};
}
function drawBoxes(svg, image, least, focus) {
  const {seen} = tally(image, least);
  const showTruth = $("#show-truth").checked, showFound = $("#show-found").checked;
  const showNames = $("#show-names").checked, showMasks = $("#show-masks")?.checked;
  svg.replaceChildren();
  const labels = [], placed = [];
  function draw(box, kind, text, mask, focused) {
    const [x, y, w, h] = box;
    if (showMasks && mask && kind !== "truth") for (const path of mask) svg.append(shape("polygon", {points: path.join(" "), class: `mask ${kind}`}));
    svg.append(shape("rect", {x, y, width: w, height: h, class: `box ${kind}${focused ? " focus" : ""}`}));
    if (text && showNames) labels.push([Math.max(2, x + 2), y > 14 ? y - 4 : y + 12, text]);
  }
  if (showTruth) image.truth.forEach((one, index) => {
    const missed = !one[5] && !seen.has(index);
    draw(one, missed ? "missed" : "truth", missed || !showFound ? nameOf(one[4]) : null, one[6], focus && focus[0] === index);
  });
  if (showFound) image.found.forEach((one, index) => {
    if (one[5] < least) return;
    draw(one, STATES[one[7]], `${nameOf(one[4])} ${one[5].toFixed(2)}`, one[8], focus && focus[1] === index);
  });
  // Text is sized in pixels of the screen, whatever the size of the picture.
  const scale = svg.clientWidth ? image.width / svg.clientWidth : 1;
  for (const [x, y, text] of labels) {
    const right = x + 6.2 * scale * text.length, top = y - 11 * scale;
    if (placed.some(other => x < other[2] && right > other[0] && top < other[3] && y > other[1])) continue;
    placed.push([x, top, right, y]);
    svg.append(shape("text", {x, y, style: `font-size: ${11 * scale}px; stroke-width: ${3 * scale}px`}, text));
  }
}
function card([number, thing, found], large = false) {
  const image = DATA.images[number];
  const svg = shape("svg", {viewBox: `0 0 ${image.width} ${image.height}`, preserveAspectRatio: "none", "aria-hidden": "true"});
  const picture = element("img", {alt: "", width: image.width, height: image.height, loading: "lazy", src: image.source});
  const counted = element("span", {class: "tally"});
  const wide = image.width / image.height > (large ? 1.35 : 4 / 3);
  const stack = element("div", {class: "stack", style: `aspect-ratio: ${image.width} / ${image.height}; ${wide ? "width" : "height"}: 100%`}, picture, svg);
  const frame = element("button", {class: "frame", type: "button", "aria-label": `${large ? "Close" : "Enlarge"} ${image.file}`}, stack);
  frame.addEventListener("click", () => large ? $("#large").close() : enlarge([number, thing, found]));
  const item = element(large ? "div" : "li", {class: "shot"}, frame,
    element("div", {class: "under"}, counted, element("span", {class: "file", text: image.file})));
  item.redraw = () => {
    const least = Number(threshold.value);
    drawBoxes(svg, image, least, [thing, found]);
    const {correct, wrong, missed} = tally(image, least);
    counted.innerHTML = `<b>${correct}</b> correct, <b>${wrong}</b> wrong, <b>${missed}</b> missed`;
    picture.alt = `${image.file}: ${correct} correct, ${wrong} wrong, ${missed} missed at threshold ${threshold.value}`;
  };
  return item;
}
function enlarge(one) {
  const item = card(one, true);
  $("#large").replaceChildren(item);
  $("#large").showModal();
  item.redraw();
}
function redrawGallery() {
  $("#threshold-value").textContent = Number(threshold.value).toFixed(2);
  for (const item of $$("#shots > li, #large > .shot")) item.redraw();
}
function showView(next) {
  view = next;
  limit = 24;
  fillGallery();
}
function fillGallery() {
  const inside = view.cases.filter(one => typeof one[0] === "number");
  const outside = view.cases.filter(one => typeof one[0] !== "number").map(one => one[0]);
  $("#gallery-title").textContent = view.title;
  $("#shots").replaceChildren(...inside.slice(0, limit).map(one => card(one)));
  const note = [];
  if (!inside.length) note.push(outside.length ? "No picture of these is kept in this file." : "There are none.");
  if (outside.length) note.push(`Also in: ${outside.join(", ")}`);
  $("#gallery-note").textContent = note.join(" ");
  $("#more").hidden = inside.length <= limit;
  $("#more").textContent = `Show ${Math.min(24, inside.length - limit)} more of ${inside.length}`;
  if (!view.cell) { chosenCell = null; markCell(); }
  for (const button of $$("#views button")) button.setAttribute("aria-pressed", String(button.dataset.view === view.name));
  redrawGallery();
}
$("#more").addEventListener("click", () => { limit += 24; fillGallery(); });
threshold.addEventListener("input", redrawGallery);
for (const id of ["#show-truth", "#show-found", "#show-names", "#show-masks"]) $(id)?.addEventListener("change", redrawGallery);
addEventListener("resize", redrawGallery);
for (const button of $$("#views button")) button.addEventListener("click", () => showView({...DATA.views[button.dataset.view], name: button.dataset.view}));
showView({...DATA.views.worst, name: "worst"});
