// A recording from the microphone, with its level while it goes on.

import { drawWave } from "./wave.js";

const BARS = 64;
const KINDS = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

export class Recording {
  /** Begin; rejects where there is no microphone or it is not allowed. */
  static async begin(canvas, onTick) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    return new Recording(stream, canvas, onTick);
  }

  constructor(stream, canvas, onTick) {
    const mimeType = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    const pieces = [];
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const levels = Array(BARS).fill(0);
    const began = performance.now();
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      levels.push(samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
      levels.shift();
      drawWave(canvas, levels);
      onTick((performance.now() - began) / 1000);
    }, 80);
    this.recorder = new MediaRecorder(stream, mimeType ? { mimeType } : {});
    this.recorder.ondataavailable = ({ data }) => pieces.push(data);
    /** The file, when `stop` was called. */
    this.result = new Promise((resolve) => {
      this.recorder.onstop = () => {
        clearInterval(timer);
        context.close();
        for (const track of stream.getTracks()) track.stop();
        const type = this.recorder.mimeType.split(";")[0];
        resolve(new File(pieces, `recording.${type.split("/")[1]}`, { type }));
      };
    });
    this.recorder.start();
  }

  stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
  }
}
