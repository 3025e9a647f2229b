/** What this tab sends: camera and microphone, or a generated picture and tone. */

const TONES_HZ = [261.63, 329.63, 392.0, 440.0, 523.25];

/**
 * @param {"camera"|"test"} kind
 * @param {{title: string, name: string, hue: number, index: number}} look  Of the test picture.
 * @returns {Promise<{stream: MediaStream, stop: () => void}>}
 * @throws {Error} With a sentence for the user when the devices cannot be had.
 */
export async function openMedia(kind, look) {
  return kind === "camera" ? openCamera() : openTestPicture(look);
}

async function openCamera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: true,
      video: { width: 640, height: 360, frameRate: { max: 24 } },
    });
    return { stream, stop: () => stream.getTracks().forEach((track) => track.stop()) };
  } catch (error) {
    const reasons = {
      NotAllowedError: "The browser was not allowed to use camera and microphone.",
      NotFoundError: "There is no camera or no microphone here.",
      NotReadableError: "Another program holds the camera or the microphone.",
    };
    throw new Error(`${reasons[error.name] ?? error.message} Choose the test picture instead.`, { cause: error });
  }
}

function openTestPicture(look) {
  const worker = new Worker("/pattern_worker.js");
  const video = "MediaStreamTrackGenerator" in window ? generated(worker, look) : captured(worker, look);
  const { track: audio, stop: silence } = tone(TONES_HZ[look.index % TONES_HZ.length]);
  return {
    stream: new MediaStream([video, audio]),
    stop() {
      worker.terminate();
      video.stop();
      silence();
    },
  };
}

/** Chromium: the worker writes the frames; nothing depends on this tab being in front. */
function generated(worker, look) {
  const track = new MediaStreamTrackGenerator({ kind: "video" });
  worker.postMessage({ ...look, writable: track.writable }, [track.writable]);
  return track;
}

/** Other browsers: the worker draws and paces, a canvas of this page carries. */
function captured(worker, look) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("bitmaprenderer");
  [canvas.width, canvas.height] = [640, 360];
  worker.addEventListener("message", ({ data }) => context.transferFromImageBitmap(data));
  worker.postMessage(look);
  return canvas.captureStream(20).getVideoTracks()[0];
}

/** A soft note that swells once a second. It is only sent, never played in this tab. */
function tone(frequency) {
  const context = new AudioContext();
  const note = new OscillatorNode(context, { frequency });
  const swell = new OscillatorNode(context, { frequency: 1 });
  const loudness = new GainNode(context, { gain: 0.05 });
  const depth = new GainNode(context, { gain: 0.05 });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  swell.connect(depth).connect(loudness.gain);
  note.connect(loudness).connect(out);
  note.start();
  swell.start();
  // Without a gesture (autojoin) a browser keeps the context suspended: the first one wakes it.
  const wake = () => context.resume();
  addEventListener("pointerdown", wake);
  addEventListener("keydown", wake);
  const [track] = out.stream.getAudioTracks();
  return {
    track,
    stop() {
      removeEventListener("pointerdown", wake);
      removeEventListener("keydown", wake);
      track.stop();
      context.close();
    },
  };
}
