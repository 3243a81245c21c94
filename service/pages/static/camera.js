// A photograph taken by the page itself.

const dialog = document.getElementById("camera");
const video = document.getElementById("camera-video");

/** Show what the camera sees; resolves with a JPEG file, or null where the dialog was closed. */
export async function shoot() {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 1280 } },
  });
  video.srcObject = stream;
  dialog.showModal();
  return new Promise((resolve) => {
    const finish = (photo) => {
      for (const track of stream.getTracks()) track.stop();
      video.srcObject = null;
      dialog.onclose = null;
      dialog.close();
      resolve(photo);
    };
    dialog.onclose = () => finish(null);
    document.getElementById("camera-close").onclick = () => finish(null);
    document.getElementById("camera-shoot").onclick = () => {
      const canvas = document.createElement("canvas");
      canvas.width = video.videoWidth;
      canvas.height = video.videoHeight;
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => finish(new File([blob], "photo.jpg", { type: "image/jpeg" })), "image/jpeg", 0.95);
    };
  });
}
