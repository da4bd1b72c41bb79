// Numbers, times and units as people write them.
import { lang, t } from "./i18n";

const locale = () => (lang.value === "vi" ? "vi-VN" : "en-GB");
const cache = new Map<string, Intl.DateTimeFormat>();

function formatter(name: string, options: Intl.DateTimeFormatOptions) {
  const key = locale() + name;
  let f = cache.get(key);
  if (!f) cache.set(key, f = new Intl.DateTimeFormat(locale(), { hourCycle: "h23", ...options }));
  return f;
}

type When = string | number | Date | null | undefined;
const date = (at: When) => (at === null || at === undefined || at === "" ? null : new Date(at));

export function clock(at: When) {
  const d = date(at);
  return d ? formatter("clock", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(d) : "–";
}

export function day(at: When) {
  const d = date(at);
  return d ? formatter("day", { day: "2-digit", month: "2-digit", year: "numeric" }).format(d) : "–";
}

// when gives the time of day for today, and the date before it otherwise.
export function when(at: When) {
  const d = date(at);
  if (!d) return "–";
  return d.toDateString() === new Date().toDateString() ? clock(d) : `${formatter("short", { day: "2-digit", month: "2-digit" }).format(d)} ${clock(d)}`;
}

export const full = (at: When) => (date(at) ? `${day(at)} ${clock(at)}` : "–");

export function duration(ms: number) {
  const s = Math.max(0, Math.round(ms / 1000));
  const w = t("units_time");
  if (s < 60) return `${s} ${w.s}`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} ${w.m} ${s % 60} ${w.s}` : `${Math.floor(s / 60)} ${w.m}`;
  if (s < 86400) return `${Math.floor(s / 3600)} ${w.h}${Math.floor((s % 3600) / 60) ? ` ${Math.floor((s % 3600) / 60)} ${w.m}` : ""}`;
  return `${Math.floor(s / 86400)} ${w.d}${Math.floor((s % 86400) / 3600) ? ` ${Math.floor((s % 86400) / 3600)} ${w.h}` : ""}`;
}

export function number(v: number | null | undefined, decimals?: number) {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  return v.toLocaleString(locale(), decimals === undefined
    ? { maximumSignificantDigits: Math.abs(v) >= 1000 ? 6 : 4 }
    : { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export const percent = (v: number | null | undefined, decimals = 1) => (v === null || v === undefined || !Number.isFinite(v) ? "–" : `${number(v * 100, decimals)} %`);

export function bytes(n: number) {
  for (const u of ["B", "kB", "MB"]) { if (n < 1000) return `${number(n, u === "B" ? 0 : 1)} ${u}`; n /= 1000; }
  return `${number(n, 1)} GB`;
}

const symbols: Record<string, string> = { "1": "", "[pH]": "", Cel: "°C", deg: "°", "ug/m3": "µg/m³", "dB{mW}": "dBm", "dB[mW]": "dBm", "dB[SPL]": "dB" };

// unit shows a UCUM code; the rules are those of telemetry.UnitSymbol.
export function unit(ucum: string | undefined) {
  if (!ucum) return "";
  if (ucum in symbols) return symbols[ucum]!;
  const u = ucum.replace(/\{.*?\}/g, "").replace(/^u/, "µ").replace(/[[\].]/g, "").replace("m3", "m³").replace("m2", "m²").trim();
  return u.startsWith("/") ? "" : u;
}

export const measured = (v: number | null | undefined, u: string, decimals?: number) => `${number(v, decimals)}${unit(u) ? ` ${unit(u)}` : ""}`;

// csv writes a table that Excel opens with its diacritics.
export function csv(rows: (string | number | null | undefined)[][]) {
  const cell = (v: string | number | null | undefined) => {
    let s = v === null || v === undefined ? "" : String(v);
    if (typeof v === "string" && /^[=+@\t\r-]/.test(s)) s = `'${s}`; // no formula from a name
    return /[",\n\r]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s;
  };
  return `\ufeff${rows.map((r) => r.map(cell).join(",")).join("\r\n")}\r\n`;
}

export function download(name: string, text: string, type = "text/csv;charset=utf-8") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
