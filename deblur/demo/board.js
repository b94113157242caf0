// A board to draw on: its value is the strokes as JSON, lists of points (x, y) in [0, 1].
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d");
let strokes = [];
let drawing = false;

const paint = () => {
  pen.fillStyle = "black";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = "white";
  pen.lineWidth = canvas.width / 12;
  pen.lineCap = pen.lineJoin = "round";
  for (const stroke of strokes) {
    pen.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) pen.lineTo(x * canvas.width, y * canvas.height);
    pen.stroke();
  }
};
const changed = () => {
  props.value = strokes.length ? JSON.stringify(strokes) : "";
  paint();
};
const add = (event) => {
  const box = canvas.getBoundingClientRect();
  const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  strokes.at(-1).push(place.map((side) => Math.round(Math.min(Math.max(side, 0), 1) * 1000) / 1000));
  paint();
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  strokes.push([]);
  add(event);
});
canvas.addEventListener("pointermove", (event) => drawing && add(event));
for (const end of ["pointerup", "pointercancel"])
  canvas.addEventListener(end, () => {
    if (drawing) changed();
    drawing = false;
  });
element.querySelector(".undo").addEventListener("click", () => {
  strokes.pop();
  changed();
});
element.querySelector(".clear").addEventListener("click", () => {
  strokes = [];
  changed();
});
paint();
