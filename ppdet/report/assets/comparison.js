"use strict";
// The comparison page: the curves of several runs over each other.
for (const chart of DATA.charts) lineChart($(`#chart-${chart.id}`), () => ({
  x: chart.x, series: chart.series.map((one, i) => ({label: one.label, values: one.values, color: COLORS[i % COLORS.length], points: chart.points})),
  xLabel: "step", yLabel: chart.unit, digits: chart.digits, sync: "steps",
  xShow: step => String(step), describe: `${chart.title} by step of ${chart.series.map(one => one.label).join(", ")}`,
}));
