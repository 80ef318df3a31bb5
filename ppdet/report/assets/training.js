"use strict";
// The training page: curves by step, pictures over time.
const smoothing = $("#smoothing"), logScale = $("#log-scale");
function smooth(values, weight) {
  let mean = null, mass = 0;
  return values.map(value => {
    if (value == null || !weight) return value;
    mean = (mean ?? 0) * weight + value * (1 - weight);
    mass = mass * weight + (1 - weight);
    return mean / mass;
  });
}
const epochOf = step => DATA.steps_per_epoch ? ` (epoch ${(step / DATA.steps_per_epoch).toFixed(2)})` : "";
const charts = DATA.charts.map(chart => lineChart($(`#chart-${chart.id}`), () => {
  const weight = chart.smooth ? Number(smoothing.value) : 0;
  const series = [];
  chart.series.forEach((one, i) => {
    const color = COLORS[i % COLORS.length];
    series.push({label: one.label, values: smooth(one.values, weight), color, points: chart.points, width: i ? 1.75 : 2.25});
  });
  const last = one => one.values.filter(value => value != null).at(-1);
  return {x: chart.x, series, xLabel: "step", xShow: step => step + epochOf(step), yLabel: chart.unit, sync: "steps", digits: chart.digits,
    log: chart.smooth && logScale.checked, height: 240,
    mark: DATA.best && chart.marks_best ? plot => {
      const x = plot.valToPos(DATA.best.step, "x", true), context = plot.ctx;
      context.save(); context.strokeStyle = css("--correct"); context.setLineDash([4, 4]); context.beginPath();
      context.moveTo(x, plot.bbox.top); context.lineTo(x, plot.bbox.top + plot.bbox.height); context.stroke();
      context.restore();
    } : null,
    describe: `${chart.title} by step: ` + chart.series.map(one => `${one.label} ${one.values.find(value => value != null)?.toPrecision(3)} at first, ${last(one)?.toPrecision(3)} at last`).join("; ")};
}));
for (const input of [smoothing, logScale]) input.addEventListener("input", () => {
  $("#smoothing-value").textContent = Number(smoothing.value).toFixed(2);
  for (const redraw of charts) redraw();
});
const moment = $("#moment");
if (moment) {
  const show = () => {
    const at = DATA.pictures[Number(moment.value)];
    $("#moment-value").textContent = `step ${at.step}`;
    $("#pictures").replaceChildren(...at.images.map(([name, source]) => element("li", {class: "shot"},
      element("div", {class: "frame"}, element("img", {src: source, alt: `${name} after step ${at.step}`, style: "object-fit: contain"})),
      element("div", {class: "under"}, element("span", {class: "file", text: name})))));
  };
  moment.addEventListener("input", show);
  show();
}
