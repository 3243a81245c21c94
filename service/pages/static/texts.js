// The texts of the page's language, and numbers and times as that language writes them.

const html = document.documentElement;
const language = html.lang;
const texts = await (await fetch(`${html.dataset.static}/texts/${language}.json`)).json();

/** The text of a key, with {names} filled in; the key itself where there is none. */
export function t(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export const has = (key) => key in texts;

const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const percents = new Intl.NumberFormat(language, { style: "percent" });
const times = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });

export const number = (value) => plain.format(value);
export const percent = (share) => percents.format(share);
export const time = (iso) => times.format(new Date(iso));

/** Bytes as people read them. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${plain.format(bytes / 1e3)} kB` : `${plain.format(bytes / 1e6)} MB`;
}

/** Seconds as 0:07 or 1:02:03. */
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  return whole < 3600
    ? `${Number(parts[0])}:${parts[1]}`
    : `${Math.floor(whole / 3600)}:${parts.join(":")}`;
}

/** Seconds as "12 s" or "3 min", for what is only about right. */
export function roughly(seconds) {
  const unit = seconds < 90 ? "second" : "minute";
  const value = Math.max(1, Math.round(unit === "second" ? seconds : seconds / 60));
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(value);
}
