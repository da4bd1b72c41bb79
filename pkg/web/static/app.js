// The first page: alerts as they change, sites with their live values.
const words = {
  vi: {
    alerts: "Cảnh báo", sites: "Địa bàn và thiết bị", active: "Đang diễn ra", all: "Tất cả", lang: "English",
    info: "Thông tin", warning: "Cảnh báo", critical: "Nghiêm trọng", emergency: "Khẩn cấp", fine: "Bình thường",
    live: "trực tiếp", reconnecting: "đang nối lại…", connecting: "đang kết nối…", lastEvent: "sự kiện cuối",
    stale: "MẤT KẾT NỐI: dữ liệu trên trang này đã cũ từ", cleared: "đã kết thúc", since: "từ", lasted: "kéo dài",
    up: "hoạt động", down: "mất liên lạc", unknown: "chưa rõ", noAlerts: "Không có cảnh báo nào.",
    noSites: "Chưa có địa bàn nào. Khai báo địa bàn trong sites.yaml rồi khởi động langbiang-edge tại hiện trường.",
    noDevices: "Chưa nhận được thiết bị nào từ địa bàn này.", edge: "bộ thu", offline: "ngoại tuyến", peak: "đỉnh", limit: "ngưỡng",
    reasons: { no_answer: "không trả lời", unreachable: "không kết nối được", exception: "thiết bị báo lỗi", bad_frame: "khung dữ liệu hỏng",
      malformed: "dữ liệu sai dạng", missing: "thiếu trường", out_of_range: "ngoài dải", not_fitted: "không lắp", invalid: "không hợp lệ",
      offline: "ngoại tuyến", silent: "im lặng", non_finite: "không phải số", maintenance: "bảo trì", configuration: "cấu hình sai" },
  },
  en: {
    alerts: "Alerts", sites: "Sites and devices", active: "Active", all: "All", lang: "Tiếng Việt",
    info: "Info", warning: "Warning", critical: "Critical", emergency: "Emergency", fine: "Normal",
    live: "live", reconnecting: "reconnecting…", connecting: "connecting…", lastEvent: "last event",
    stale: "CONNECTION LOST: what this page shows is old since", cleared: "cleared", since: "since", lasted: "lasted",
    up: "answers", down: "no answer", unknown: "not heard of", noAlerts: "No alerts.",
    noSites: "No sites yet. List them in sites.yaml, then start langbiang-edge on a gateway.",
    noDevices: "No device of this site has been heard of yet.", edge: "edge", offline: "offline", peak: "peak", limit: "limit",
    reasons: { no_answer: "no answer", unreachable: "unreachable", exception: "device refuses", bad_frame: "damaged frame",
      malformed: "malformed", missing: "field missing", out_of_range: "out of range", not_fitted: "not fitted", invalid: "invalid",
      offline: "offline", silent: "silent", non_finite: "not a number", maintenance: "maintenance", configuration: "configuration" },
  },
};

let lang = localStorage.getItem("lang") === "en" ? "en" : "vi";
let show = "all";
const alerts = new Map();
let sites = [], devices = [], series = [], edges = [];
let lastEvent = null, lastContact = Date.now();
const severities = ["emergency", "critical", "warning", "info"];
const maxShown = 200;
const $ = (id) => document.getElementById(id);
const t = (key) => words[lang][key];
const text = (o) => (o && (o[lang] || o.vi || o.en)) || "";
const clock = (iso) => new Date(iso).toLocaleTimeString(lang === "vi" ? "vi-VN" : "en-GB");
const number = (v, decimals) => v.toLocaleString(lang === "vi" ? "vi-VN" : "en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });

// unit shows a UCUM code as people write it.
const units = { Cel: "°C", "ug/m3": "µg/m³", "[ppm]": "ppm", "[ppb]": "ppb", deg: "°", "%": "%", "mm/h": "mm/h", lx: "lx", "1": "", dB: "dB", "dB[SPL]": "dB", "W/m2": "W/m²", "m3/s": "m³/s", "kW.h": "kWh", "m3": "m³" };
const unit = (u) => (u in units ? units[u] : (u || "").replace(/\{.*?\}/g, ""));

function el(tag, props = {}, ...children) {
  const e = Object.assign(document.createElement(tag), props);
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

function siteName(id) {
  const s = sites.find((x) => x.id === id);
  return s ? text(s.name) : id;
}

function alertItem(a, fresh) {
  const cleared = a.state === "cleared";
  const li = el("li", { className: `alert ${a.severity} ${a.state}${fresh ? " new" : ""}` });
  li.append(
    el("div", { className: "top" },
      el("span", { className: "badge", textContent: t(a.severity) }),
      cleared ? el("span", { className: "where", textContent: t("cleared") }) : null,
      el("time", { dateTime: a.start, textContent: cleared ? `${clock(a.start)} – ${clock(a.end)}` : `${t("since")} ${clock(a.start)}` })),
    el("p", { className: "what", textContent: text(a.message) || a.rule }),
    el("div", { className: "where", textContent: `${siteName(a.site)} · ${a.device} · ${t("limit")} ${number(a.limit, undefined)} ${unit(a.unit)} · ${t("peak")} ${number(a.peak, undefined)} ${unit(a.unit)}` }));
  return li;
}

function drawAlerts(freshID) {
  const all = [...alerts.values()].sort((x, y) => (x.state === y.state ? y.start.localeCompare(x.start) : x.state === "active" ? -1 : 1));
  const shown = all.filter((a) => show === "all" || a.state === "active").slice(0, maxShown);
  $("alerts").replaceChildren(...shown.map((a) => alertItem(a, a.id === freshID)));
  $("no-alerts").hidden = shown.length > 0;
  const counts = severities.map((s) => [s, all.filter((a) => a.state === "active" && a.severity === s).length]).filter(([, n]) => n > 0);
  $("counts").replaceChildren(...(counts.length ? counts.map(([s, n]) => el("li", { className: s, textContent: `${n} ${t(s)}` })) : [el("li", { className: "fine", textContent: t("fine") })]));
}

function deviceCard(d) {
  const state = d.up === null ? "unknown" : d.up ? "up" : "down";
  const reason = d.reason && d.reason !== "none" ? ` · ${t("reasons")[d.reason] || d.reason}` : "";
  const mine = series.filter((s) => s.edge === d.edge && s.device === d.id && s.quantity !== "device_up");
  const rows = mine.map((s) => {
    const bad = s.quality.startsWith("bad");
    const cell = el("td");
    if (bad) cell.append(t("reasons")[s.quality.slice(5)] || "–");
    else if (s.value === null && !s.text) cell.append("–");
    else cell.append(s.text || number(s.value, s.decimals), " ", el("span", { className: "unit", textContent: unit(s.unit) }));
    if (s.time) cell.title = `${clock(s.time)} · ${s.quality}`;
    // Several points of one quantity (the loops of a counter) are told apart by their ids.
    const alike = mine.some((o) => o !== s && o.quantity === s.quantity);
    const name = el("td", { textContent: text(s.label) || s.point, title: s.point });
    if (alike) name.append(" ", el("span", { className: "unit", textContent: s.point }));
    return el("tr", { className: bad ? "bad" : "" }, name, cell);
  });
  return el("div", { className: `device ${state}` },
    el("h4", {}, el("span", { textContent: d.id, title: d.profile || "" }), el("span", { className: "state", textContent: t(state) + (state === "down" ? reason : "") })),
    el("table", {}, el("tbody", {}, ...rows)));
}

function drawSites() {
  $("sites").replaceChildren(...sites.map((s) => {
    const here = devices.filter((d) => d.site === s.id);
    const agents = edges.filter((e) => e.site === s.id);
    return el("article", { className: "site" },
      el("div", { className: "head" },
        el("h3", { textContent: text(s.name) }),
        el("span", { className: `badge ${s.severity || "fine"}`, textContent: t(s.severity || "fine") })),
      el("div", { className: "meta", textContent: agents.map((e) => `${t("edge")} ${e.id}: ${e.connected ? t("live") : t("offline")}${e.watermark ? `, ${clock(e.watermark)}` : ""}${e.status && e.status !== "ok" ? `, ${e.detail || e.status}` : ""}`).join(" · ") }),
      here.length ? el("div", { className: "devices" }, ...here.map(deviceCard)) : el("p", { className: "empty", textContent: t("noDevices") }));
  }));
  $("no-sites").hidden = sites.length > 0;
}

function drawFrame() {
  document.documentElement.lang = lang;
  $("alerts-title").textContent = t("alerts");
  $("sites-title").textContent = t("sites");
  $("lang").textContent = t("lang");
  $("no-alerts").textContent = t("noAlerts");
  $("no-sites").textContent = t("noSites");
  $("filters").replaceChildren(...["active", "all"].map((k) => {
    const b = el("button", { type: "button", textContent: t(k) });
    b.setAttribute("aria-pressed", String(show === k));
    b.onclick = () => { show = k; drawFrame(); drawAlerts(); };
    return b;
  }));
}

function drawLink(state) {
  const p = $("link");
  p.className = state === "live" ? "live" : state === "reconnecting" ? "lost" : "wait";
  p.textContent = t(state) + (lastEvent ? ` · ${t("lastEvent")} ${clock(lastEvent)}` : "");
}

async function all(path) {
  const items = [];
  let cursor = "";
  do {
    const r = await fetch(`/api/v1/${path}?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    if (!r.ok) throw new Error(`${path}: ${r.status}`);
    const body = await r.json();
    items.push(...body.items);
    cursor = body.next;
  } while (cursor);
  return items;
}

async function refresh() {
  try {
    [sites, edges, devices, series] = await Promise.all(["sites", "edges", "devices", "series"].map(all));
    lastContact = Date.now();
    $("stale").hidden = true;
    drawSites();
  } catch {
    if (Date.now() - lastContact > 10000) {
      $("stale").textContent = `${t("stale")} ${clock(new Date(lastContact).toISOString())}`;
      $("stale").hidden = false;
    }
  }
}

// forget drops the oldest cleared alerts, so that a page left open for weeks stays small.
function forget() {
  if (alerts.size <= 2 * maxShown) return;
  const cleared = [...alerts.values()].filter((a) => a.state === "cleared").sort((x, y) => x.start.localeCompare(y.start));
  for (const a of cleared.slice(0, alerts.size - maxShown)) alerts.delete(a.id);
}

// list fetches what the stream does not repeat: all active alerts and the newest others.
async function list() {
  const got = [];
  let cursor = "";
  do {
    const r = await fetch(`/api/v1/alerts?state=active&limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    if (!r.ok) throw new Error(`alerts: ${r.status}`);
    const body = await r.json();
    got.push(...body.items);
    cursor = body.next;
  } while (cursor);
  const recent = await fetch(`/api/v1/alerts?limit=${maxShown}`);
  if (!recent.ok) throw new Error(`alerts: ${recent.status}`);
  got.push(...(await recent.json()).items);
  for (const a of got) {
    const known = alerts.get(a.id);
    if (!known || a.sequence >= known.sequence) alerts.set(a.id, a);
  }
  drawAlerts();
}

// The stream opens first and the list is read once it is open: an alert that
// changes in between comes by both ways, and the higher sequence counts.
function listen() {
  const source = new EventSource("/api/v1/alerts/stream");
  source.onopen = () => { drawLink("live"); };
  source.onerror = () => { drawLink(source.readyState === EventSource.CLOSED ? "connecting" : "reconnecting"); if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000); };
  source.addEventListener("hello", () => { list().catch(() => {}); });
  source.addEventListener("generation", () => { alerts.clear(); list().catch(() => {}); });
  source.addEventListener("trimmed", () => { list().catch(() => {}); });
  source.addEventListener("alert", (ev) => {
    const entry = JSON.parse(ev.data).data; // in its CloudEvents envelope
    const a = { ...entry.alert, sequence: entry.sequence };
    const known = alerts.get(a.id);
    if (known && known.sequence > a.sequence) return;
    alerts.set(a.id, a);
    lastEvent = entry.recorded;
    forget();
    drawLink("live");
    drawAlerts(known ? undefined : a.id);
  });
}

$("lang").onclick = () => {
  lang = lang === "vi" ? "en" : "vi";
  localStorage.setItem("lang", lang);
  drawFrame(); drawAlerts(); drawSites(); drawLink("live");
};

drawFrame();
drawLink("connecting");
listen();
refresh();
setInterval(refresh, 2000);
