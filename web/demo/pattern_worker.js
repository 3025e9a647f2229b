/**
 * Draws the test picture: a place's name, a clock, a river that flows. In a worker, because browsers stop the
 * drawing of tabs that are not in front, and the second tab of this demo is always behind the first.
 *
 * In: {title, name, hue, writable?}. With `writable` (of a MediaStreamTrackGenerator) frames go there; without,
 * every frame is posted back as an ImageBitmap.
 */

const WIDTH = 640;
const HEIGHT = 360;
const FRAME_MS = 50;
const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
const context = canvas.getContext("2d");

onmessage = ({ data: { title, name, hue, writable } }) => {
  const writer = writable?.getWriter();
  setInterval(() => {
    draw({ title, name, hue }, performance.now() / 1000);
    if (!writer) {
      const bitmap = canvas.transferToImageBitmap();
      postMessage(bitmap, [bitmap]);
    } else if (writer.desiredSize > 0) {
      writer.write(new VideoFrame(canvas, { timestamp: performance.now() * 1000 })).catch(() => close());
    }
  }, FRAME_MS);
};

function draw({ title, name, hue }, t) {
  const sky = context.createLinearGradient(0, 0, 0, HEIGHT);
  sky.addColorStop(0, `hsl(${hue} 60% 22%)`);
  sky.addColorStop(1, `hsl(${hue + 30} 65% 12%)`);
  context.fillStyle = sky;
  context.fillRect(0, 0, WIDTH, HEIGHT);
  for (let i = 0; i < 7; i += 1) {
    context.beginPath();
    for (let x = 0; x <= WIDTH; x += 16) {
      const y = 264 + i * 13 + 16 * Math.sin(x / 90 + t * 1.3 + i * 0.5) + 6 * Math.sin(x / 37 - t + i);
      if (x === 0) context.moveTo(x, y);
      else context.lineTo(x, y);
    }
    context.lineWidth = i === 3 ? 6 : 2;
    context.strokeStyle = `hsl(${hue + i * 6} 80% ${i === 3 ? 68 : 42}%)`;
    context.stroke();
  }
  const boat = (t * 90) % (WIDTH + 40) - 20;
  context.beginPath();
  context.arc(boat, 303 + 16 * Math.sin(boat / 90 + t * 1.3 + 1.5) - 10, 11, 0, Math.PI * 2);
  context.fillStyle = "#fff";
  context.fill();
  context.textAlign = "center";
  context.fillStyle = "#fff";
  context.font = "600 62px system-ui, sans-serif";
  context.fillText(title, WIDTH / 2, 158, WIDTH - 60); // below the badge of a small tile
  context.font = "28px system-ui, sans-serif";
  context.fillStyle = `hsl(${hue} 80% 82%)`;
  context.fillText(name, WIDTH / 2, 196, WIDTH - 60);
  const now = new Date();
  const clock = now.toLocaleTimeString("en-GB") + "." + Math.floor(now.getMilliseconds() / 100);
  context.font = "600 36px ui-monospace, monospace";
  context.fillStyle = "#fff";
  context.fillText(clock, WIDTH / 2, 242);
}
