// The field of the face: a portrait or a film, dropped, chosen or photographed.

import { t, size, clock } from "./texts.js";
import { acceptDrops, isFilm, tell } from "./drop.js";
import { facesOf, sentence } from "./api.js";
import { shoot } from "./camera.js";

const limits = document.documentElement.dataset;
const at = (id) => document.getElementById(`face-${id}`);
const image = at("image");
const video = at("video");

let file = null;
let address = "";
let chosen = 0;
let onChange = () => {};

export const faceFile = () => file;
export const faceIsFilm = () => file !== null && isFilm(file);
export const chosenFace = () => chosen;

/** Set the field up; `changed` is called whenever another file is chosen. */
export function prepareFace(changed) {
  onChange = changed;
  acceptDrops(at("drop"), setFace);
  for (const id of ["file", "capture"]) {
    at(id).addEventListener("change", ({ target }) => target.files[0] && setFace(target.files[0]));
  }
  at("clear").addEventListener("click", () => setFace(null));
  // Where a page may not look through the camera itself (no https), a phone still hands over a photograph.
  if (navigator.mediaDevices?.getUserMedia) {
    at("camera").hidden = false;
    at("camera").addEventListener("click", async () => {
      try {
        const photo = await shoot();
        if (photo) setFace(photo);
      } catch {
        tell("face", t("camera.denied"));
      }
    });
  } else if (matchMedia("(pointer: coarse)").matches) {
    at("capture").hidden = at("capture-label").hidden = false;
  }
  image.addEventListener("load", () => describe(`${image.naturalWidth} × ${image.naturalHeight}`));
  video.addEventListener("loadedmetadata", () => describe(t("face.film", { length: clock(video.duration) })));
  for (const element of [image, video]) {
    element.addEventListener("error", () => {
      if (element.src !== address) return;
      at("frame").hidden = true;
      at("unseen").hidden = false;
      describe(null);
    });
  }
}

/** Take a file, or none. */
export function setFace(next) {
  tell("face", null);
  if (next && !/^(image|video)\//.test(next.type) && !/\.(heic|heif|avif|mkv|ts|avi)$/i.test(next.name)) {
    tell("face", t("face.wrong"));
    return;
  }
  const most = Number(next && isFilm(next) ? limits.maxVideoBytes : limits.maxImageBytes);
  if (next && next.size > most) {
    tell("face", t("error.large", { size: size(next.size), limit: size(most) }));
    return;
  }
  if (address) URL.revokeObjectURL(address);
  file = next;
  address = next ? URL.createObjectURL(next) : "";
  at("empty").hidden = Boolean(next);
  at("preview").hidden = at("clear").hidden = !next;
  at("drop").classList.toggle("full", Boolean(next));
  at("frame").hidden = false;
  at("unseen").hidden = true;
  at("note").textContent = "";
  at("file").value = at("capture").value = "";
  const film = faceIsFilm();
  for (const [element, isShown] of [[image, next && !film], [video, film]]) {
    element.hidden = !isShown;
    if (isShown) element.src = address;
    else element.removeAttribute("src");
  }
  showFaces(null);
  onChange();
  if (next && !film) lookForFaces(next);
}

/** Ask the server whose faces it sees, before anything is made; where nobody looks, the job does. */
async function lookForFaces(picture) {
  let found;
  try {
    found = await facesOf(picture);
  } catch (problem) {
    // What is wrong with the picture is told now; that nobody looks is no fault of it.
    if (file === picture && [413, 415, 422].includes(problem.status)) tell("face", problem.message);
    return;
  }
  if (file !== picture) return;
  const { width, height, faces } = found;
  if (!faces.length) tell("face", sentence({ code: "no_face_found", detail: t("face.none") }));
  const boxes = faces.map(({ box: [x0, y0, x1, y1] }) => [x0 * width, y0 * height, x1 * width, y1 * height]);
  showFaces({ width, height, boxes, refused: faces.map(({ refused, detail }) => refused && { code: refused, detail }) });
}

/** Whether the faces of what is chosen are shown. */
export const facesAreShown = () => !at("boxes").hasAttribute("hidden");

function describe(what) {
  at("note").textContent = [what, file.size ? size(file.size) : null].filter(Boolean).join(" · ");
}

/**
 * Draw the faces that were found over the picture; with several, let one be chosen.
 *
 * @param found {{width: number, height: number, boxes: number[][], refused?: object[]} | null} Boxes x0, y0, x1, y1
 *   in pixels of a picture of this size, largest first; and for each why it would be refused, or null.
 */
export function showFaces(found) {
  const svg = at("boxes");
  chosen = 0;
  svg.replaceChildren();
  const isShown = Boolean(found?.boxes.length) && !image.hidden;
  svg.toggleAttribute("hidden", !isShown); // an SVG element has no property of this name
  if (!isShown) return;
  svg.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
  const isChoice = found.boxes.length > 1;
  svg.setAttribute("role", isChoice ? "radiogroup" : "presentation");
  svg.setAttribute("aria-label", t("face.title"));
  const boxes = found.boxes.map(([x0, y0, x1, y1], index) => {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const all = { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: (x1 - x0) * 0.06 };
    for (const [name, value] of Object.entries(all)) box.setAttribute(name, value);
    if (isChoice) {
      box.setAttribute("role", "radio");
      box.setAttribute("tabindex", "0");
      box.setAttribute("aria-label", t("face.box", { number: index + 1 }));
      box.addEventListener("click", () => chooseAnew(index));
      box.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          chooseAnew(index);
        }
      });
    }
    return box;
  });
  const choose = (index) => {
    chosen = index;
    boxes.forEach((box, other) => {
      box.classList.toggle("other", other !== index);
      if (isChoice) box.setAttribute("aria-checked", other === index);
    });
    const problem = found.refused?.[index];
    if (found.refused) tell("face", problem ? sentence(problem) : null);
  };
  const chooseAnew = (index) => {
    choose(index);
    onChange();
  };
  svg.append(...boxes);
  choose(0);
  const told = isChoice ? t("face.several", { count: boxes.length }) : t("face.one");
  describe(`${image.naturalWidth} × ${image.naturalHeight} · ${told}`);
}

/** A small still of what was chosen, as a data address; "" where this browser cannot show it. */
export function faceStill(side = 160) {
  const source = faceIsFilm() ? video : image;
  const [width, height] = [source.videoWidth || source.naturalWidth, source.videoHeight || source.naturalHeight];
  if (!width || !height) return "";
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const edge = Math.min(width, height);
  const place = [(width - edge) / 2, (height - edge) / 4, edge, edge, 0, 0, side, side];
  canvas.getContext("2d").drawImage(source, ...place);
  return canvas.toDataURL("image/jpeg", 0.8);
}
