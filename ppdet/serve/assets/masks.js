"use strict";
// Run-length masks of COCO, as text: numbers of 5 bits a character, the lowest first, bit 6 for "goes on"; from the
// third on each is the difference to the one before the last. Columns first, beginning with the background.
function runsOf(text) {
  const runs = [];
  for (let place = 0; place < text.length; ) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = text.charCodeAt(place++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
      more = (code & 32) !== 0;
      if (!more && code & 16) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

// A canvas in the colour of the object, where the mask is set; one pixel for `step` x `step` of the image.
function maskCanvas(mask, colour, step) {
  const [height, width] = mask.size;
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width / step);
  canvas.height = Math.ceil(height / step);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  let place = 0, inside = false;
  for (const run of runsOf(mask.counts)) {
    if (inside) {
      for (let at = place; at < place + run; at++) {
        const x = Math.floor(at / height), y = at % height;
        if (x % step || y % step) continue;
        image.data.set([...rgb, 255], 4 * ((y / step) * canvas.width + x / step));
      }
    }
    place += run;
    inside = !inside;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
