// What a sound looks like.

// Decoded, ten minutes of sound fill 200 MB; longer files are only asked for their length.
const MOST_BYTES = 12e6;

/** Seconds of a sound and its loudest value in each of so many pieces; null where it cannot be read here. */
export async function readPeaks(file, num = 96) {
  if (file.size > MOST_BYTES) return lengthOf(file);
  const context = new OfflineAudioContext(1, 1, 22050);
  let sound;
  try {
    sound = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    return lengthOf(file);
  }
  const samples = sound.getChannelData(0);
  const step = samples.length / num;
  const peaks = Array.from({ length: num }, (_, piece) => {
    let peak = 0;
    for (let i = Math.floor(piece * step); i < (piece + 1) * step && i < samples.length; i += 1) {
      peak = Math.max(peak, Math.abs(samples[i]));
    }
    return peak;
  });
  return { seconds: sound.duration, peaks };
}

function lengthOf(file) {
  return new Promise((resolve) => {
    const audio = document.createElement("video");
    const finish = (seconds) => {
      URL.revokeObjectURL(audio.src);
      resolve(Number.isFinite(seconds) ? { seconds, peaks: [] } : null);
    };
    audio.preload = "metadata";
    audio.onloadedmetadata = () => finish(audio.duration);
    audio.onerror = () => finish(NaN);
    audio.src = URL.createObjectURL(file);
  });
}

/** Draw peaks, 0 to 1, as bars about the middle, in the canvas's own text colour. */
export function drawWave(canvas, peaks) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = getComputedStyle(canvas).color;
  const highest = Math.max(0.05, ...peaks);
  const step = canvas.width / Math.max(1, peaks.length);
  peaks.forEach((peak, index) => {
    const height = Math.max(4, (peak / highest) * canvas.height * 0.9);
    pen.beginPath();
    pen.roundRect(index * step + step * 0.2, (canvas.height - height) / 2, step * 0.6, height, step * 0.3);
    pen.fill();
  });
}
