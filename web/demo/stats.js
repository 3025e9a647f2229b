/** Frames per participant, although slots change hands: growth since the last look goes to who is in the slot now. */

export class FrameCounter {
  /** @type {Map<string, {videoFrames: number, audioFrames: number, width: number, height: number, fps: number}>} */
  #totals = new Map();
  #seen = new WeakMap();

  /**
   * @param {import("/thalweg.js").Call} call
   * @returns {Promise<Map<string, {videoFrames: number, audioFrames: number, width: number, height: number,
   *   fps: number}>>}  Decoded so far; an audio frame is 20 ms of sound that was received, not concealed.
   */
  async look(call) {
    for (const { participant, kind, media } of call.slots) {
      const report = participant && (await inbound(call.connections.subscribe, media));
      if (!report) continue;
      const total = this.#totals.get(participant) ?? { videoFrames: 0, audioFrames: 0, width: 0, height: 0, fps: 0 };
      const count = kind === "video" ? report.framesDecoded ?? 0 : audioFrames(report);
      const grown = Math.max(0, count - (this.#seen.get(media) ?? 0));
      this.#seen.set(media, count);
      if (kind === "audio") total.audioFrames += grown;
      else {
        total.videoFrames += grown;
        total.width = report.frameWidth ?? 0;
        total.height = report.frameHeight ?? 0;
        total.fps = Math.round(report.framesPerSecond ?? 0);
      }
      this.#totals.set(participant, total);
    }
    return this.#totals;
  }
}

async function inbound(connection, track) {
  if (!connection || connection.connectionState === "closed") return null;
  const reports = await connection.getStats(track);
  return [...reports.values()].find(({ type }) => type === "inbound-rtp") ?? null;
}

function audioFrames({ totalSamplesReceived = 0, concealedSamples = 0 }) {
  return Math.floor(Math.max(0, totalSamplesReceived - concealedSamples) / 960);
}
