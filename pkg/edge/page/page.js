// The gateway's status page: what `langbiang-edge status` knows, every two seconds.
const vi = !navigator.language.startsWith("en");
const t = vi ? {
  code: "Mã đã in trên gateway", enter: "Vào", wrong: "Sai mã, hoặc mã đã dùng. In mã mới: langbiang-edge page open", gone: "Không còn nghe thấy bộ thu. Trang có thể đã đóng.",
  hub: "Máy chủ", on: "đang kết nối", off: "không kết nối", log: "Nhật ký", unsent: "khung chưa an toàn ở máy chủ", given: "khung đã phải bỏ", clock: "Đồng hồ", trusted: "tin cậy", untrusted: "CHƯA TIN CẬY",
  up: "trả lời", down: "không trả lời", unknown: "chưa có tin", until: "bảo trì đến", of: "trên", load: "đường truyền bận", disabled: "bị tắt", simulated: "THIẾT BỊ MÔ PHỎNG: không số nào là thật", none: "chưa đọc",
  bad: "hỏng", uncertain: "không chắc chắn", no_answer: "không trả lời", unreachable: "không kết nối được", exception: "thiết bị báo lỗi", bad_frame: "khung dữ liệu hỏng", malformed: "dữ liệu sai dạng", missing: "thiếu trường", out_of_range: "ngoài dải đo", not_fitted: "không lắp",
  invalid: "thiết bị báo không hợp lệ", offline: "ngoại tuyến", silent: "im lặng", non_finite: "không phải số", maintenance: "bảo trì", warm_up: "đang khởi động", configuration: "cấu hình sai",
} : {
  code: "The code printed on the gateway", enter: "Enter", wrong: "Not the code, or it has been used. Print a new one: langbiang-edge page open", gone: "The agent is not heard any more. The page may be closed.",
  hub: "Hub", on: "connected", off: "not connected", log: "Log", unsent: "frames not yet safe at the hub", given: "frames given up", clock: "Clock", trusted: "trusted", untrusted: "NOT TRUSTED",
  up: "answers", down: "no answer", unknown: "not heard of", until: "maintenance until", of: "of", load: "line busy", disabled: "disabled", simulated: "SIMULATED DEVICES: no value is real", none: "not read",
};
const $ = (id) => document.getElementById(id);
const time = (s) => new Date(s).toLocaleTimeString(vi ? "vi-VN" : "en-GB");
const el = (tag, cls, ...children) => {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
};
// A quality is "bad: no_answer": in the words of the language where there are some.
const quality = (q) => q && q.split(": ").map((w) => t[w] || w).join(": ");
const ailing = (d) => (d.up === false || d.disabled ? 0 : 1); // what is wrong stands first
const card = (kind, name, state, ...rest) => el("section", kind, el("div", "head", el("h2", "", name), el("span", "state", state)), ...rest);

function draw(s) {
  const a = s.agent;
  $("edge").textContent = s.edge;
  document.title = s.edge;
  $("link").textContent = `${a.version} · ${time(a.clock.now)}`;
  const mega = (n) => `${(n / 1e6).toFixed(1)} MB`;
  $("main").replaceChildren(...[
    s.simulated ? el("p", "stale", t.simulated) : null,
    card(a.hub.connected && !a.hub.refusal ? "" : "bad", t.hub, a.hub.refusal || (a.hub.connected ? t.on : t.off), el("p", "soft", a.hub.url), el("p", "soft", a.hub.reason || "")),
    card(a.log.disk_error || a.log.given_up ? "bad" : "", t.log, `${mega(a.log.bytes)} ${t.of} ${mega(a.log.max_bytes)}`,
      el("p", "soft", `${a.log.unsafe_frames} ${t.unsent}`), a.log.given_up ? el("p", "stale", `${a.log.given_up} ${t.given}`) : null, el("p", "soft", a.log.disk_error || "")),
    card(a.clock.trusted ? "" : "bad", t.clock, a.clock.trusted ? t.trusted : t.untrusted),
    ...s.connections.map((c) => {
      const load = c.load === undefined ? null : Object.assign(document.createElement("meter"), { max: 1, high: 0.8, value: Math.min(1, c.load) });
      return card(c.devices && !c.up ? "bad" : "", c.id, `${c.up}/${c.devices} ${t.up}`, el("p", "soft", `${c.kind} ${c.address}`), load && el("p", "soft", `${t.load}: ${Math.round(100 * c.load)} %`), load);
    }),
    ...[...s.devices].sort((a, b) => ailing(a) - ailing(b)).map((d) => {
      const bad = d.up === false || d.disabled;
      const rows = (d.points || []).map((p) => el("tr", "", el("td", "", p.id), el("td", "", p.value !== undefined ? `${p.value.toFixed(p.decimals)} ${p.symbol}` : p.text || quality(p.quality) || t.none)));
      return card(bad ? "bad" : d.up === null ? "wait" : "", d.id, d.disabled ? t.disabled : d.up === null ? t.unknown : d.up ? t.up : t.down,
        d.disabled || d.detail ? el("p", "", d.disabled || d.detail) : null, d.maintenance ? el("p", "", `${t.until} ${time(d.maintenance)}`) : null,
        el("p", "soft", [d.profile, d.revision, `${d.connection} ${d.address}`, d.serial].filter(Boolean).join(" · ")), el("table", "", el("tbody", "", ...rows)));
    }),
  ].filter(Boolean));
}

async function look() {
  try {
    const r = await fetch("status");
    $("enter").hidden = r.status !== 401;
    $("main").hidden = r.status === 401;
    if (r.ok) draw(await r.json());
    else if (r.status === 401) return; // until somebody enters
  } catch {
    $("link").replaceChildren(el("span", "", t.gone));
  }
  setTimeout(look, 2000);
}

document.documentElement.lang = vi ? "vi" : "en";
document.querySelector("label").textContent = t.code;
document.querySelector("button").textContent = t.enter;
$("enter").onsubmit = async (e) => {
  e.preventDefault();
  const r = await fetch("code", { method: "POST", body: $("code").value }).catch(() => null);
  $("wrong").textContent = r?.ok ? "" : t.wrong;
  $("code").value = "";
  if (r?.ok) look();
};
look();
