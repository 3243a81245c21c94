// What may be chosen beside the face and the voice; only what differs from the defaults is sent.

import { t, number } from "./texts.js";
import { tell } from "./drop.js";

const fold = document.getElementById("options");
const numbers = ["seed", "lip_strength", "fps", "audio_offset_ms"].map((id) => document.getElementById(id));
const switches = ["blink", "loop"].map((id) => document.getElementById(id));
// Only where the operator lets callers choose.
const selects = ["label", "label_language"].map((id) => document.getElementById(id)).filter(Boolean);
const driver = document.getElementById("driving_video");

export function prepareOptions() {
  const strength = document.getElementById("lip_strength");
  strength.addEventListener("input", () => {
    document.getElementById("lip_strength-value").textContent = number(Number(strength.value));
  });
  document.getElementById("seed-roll").addEventListener("click", () => {
    document.getElementById("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    count();
  });
  const names = new Intl.DisplayNames([document.documentElement.lang], { type: "language" });
  for (const option of document.querySelectorAll("#label_language option:not([value=''])")) {
    option.textContent = names.of(option.value);
  }
  fold.addEventListener("input", ({ target }) => {
    if (target.id && document.getElementById(`${target.id}-error`)) tell(target.id, null);
    count();
  });
  count();
}

/** Show the options of what is sent: a film moves by itself, and a driver moves a portrait. */
export function showOptionsFor(isFilm) {
  for (const option of fold.querySelectorAll("[data-for=image]")) option.hidden = isFilm;
  count();
}

function count() {
  const changed = Object.keys(changedFields()).length;
  document.getElementById("options-told").textContent = changed ? t("options.changed", { count: changed }) : "";
  // The driver says how the head moves, and where a film ends.
  document.getElementById("motion-field").disabled = document.getElementById("loop").disabled = Boolean(driver.files[0]);
}

function changedFields() {
  const fields = {};
  for (const name of ["preset", "motion"]) {
    const [chosen, standard] = [":checked", "[checked]"].map((which) =>
      document.querySelector(`input[name=${name}]${which}`),
    );
    if (chosen !== standard && isUsed(chosen)) fields[name] = chosen.value;
  }
  for (const field of numbers) {
    if (field.value !== field.defaultValue && isUsed(field)) fields[field.id] = field.value;
  }
  for (const field of switches) {
    if (field.checked !== field.defaultChecked && isUsed(field)) fields[field.id] = String(field.checked);
  }
  for (const field of selects) if (field.value) fields[field.id] = field.value;
  if (driver.files[0] && isUsed(driver)) fields.driving_video = driver.files[0];
  return fields;
}

const isUsed = (field) => !field.matches(":disabled") && !field.closest("[data-for][hidden]");

/** The fields of the form, or null and a message where one cannot be sent. */
export function optionFields() {
  let isRight = true;
  for (const field of numbers) {
    const isWrong = isUsed(field) && (field.value === "" || !field.validity.valid);
    tell(field.id, isWrong ? t("number.wrong", { min: field.min, max: field.max }) : null);
    if (isWrong) [isRight, fold.open] = [false, true];
  }
  return isRight ? changedFields() : null;
}
