"use strict";
const texts = {
  vi: {
    name: "Tên đăng nhập", password: "Mật khẩu", login: "Đăng nhập", language: "Ngôn ngữ", admin: "Tên quản trị viên",
    newPassword: "Mật khẩu (ít nhất 10 ký tự)", again: "Nhập lại mật khẩu", differ: "Hai mật khẩu không giống nhau.",
    address: "Địa chỉ của trung tâm mà các gateway kết nối tới (tên miền hoặc IP)", communes: "Các xã, phường", find: "Tìm theo tên hoặc mã", others: "Nơi khác: mỗi dòng một mã và tên, ví dụ cau-dat Trạm Cầu Đất",
    finish: "Hoàn tất", setupIntro: "Thiết lập lần đầu: tạo quản trị viên.", closed: "Liên kết này đã được dùng hoặc không còn hiệu lực.",
    wrong: "Tên hoặc mật khẩu không đúng.", many: "Thử quá nhiều lần. Hãy đợi rồi thử lại.", failed: "Không kết nối được với máy chủ.",
  },
  en: {
    name: "Name", password: "Password", login: "Sign in", language: "Language", admin: "Administrator's name",
    newPassword: "Password (at least 10 characters)", again: "Password again", differ: "The two passwords differ.",
    address: "Address by which gateways reach this hub (name or IP)", communes: "Communes and wards", find: "Find by name or code", others: "Others: a code and a name on each line, for example cau-dat Cầu Đất station",
    finish: "Finish", setupIntro: "First start: make the administrator.", closed: "This link has been used, or holds no more.",
    wrong: "Name or password is wrong.", many: "Too many attempts. Wait, then try again.", failed: "The hub cannot be reached.",
  },
};
// Within another site's page a browser may refuse to remember anything.
function recall(key) { try { return localStorage.getItem(key); } catch { return null; } }
function keep(key, value) { try { localStorage.setItem(key, value); } catch { /* asked again next time */ } }
let language = recall("language") || (navigator.language.startsWith("vi") ? "vi" : "en");
const said = document.getElementById("said");
const t = (key) => texts[language][key];

function say(key) {
  said.textContent = texts[language][key] || key || "";
}

function translate() {
  document.documentElement.lang = language;
  for (const e of document.querySelectorAll("[data-text]")) e.textContent = t(e.dataset.text);
  const find = document.getElementById("find");
  find.placeholder = t("find");
  find.setAttribute("aria-label", t("find"));
}

async function send(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin" });
  if (answer.ok) return null;
  if (answer.status === 429) return "many";
  const problem = await answer.json().catch(() => ({}));
  return problem.detail || answer.statusText;
}

// Only a path of this host: never to another site after signing in. The view that
// was asked for stands behind the hash, which the browser has kept for itself.
function onward() {
  const next = new URLSearchParams(location.search).get("next") || "/";
  const url = new URL(next, location.origin);
  const view = url.hash || (location.hash.startsWith("#/") ? location.hash : "");
  location.replace(url.origin === location.origin ? url.pathname + url.search + view : "/");
}

function submit(form, act) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    say("");
    try {
      say(await act(form.elements));
    } catch {
      say("failed");
    }
    button.disabled = false;
  });
}

submit(document.getElementById("login"), async (f) => {
  const fault = await send("/api/v1/session", { name: f.name.value, password: f.password.value });
  if (!fault) onward();
  return fault && fault !== "many" ? "wrong" : fault;
});

// plain is a text without marks, so that "lac duong" finds Lạc Dương.
const plain = (s) => s.normalize("NFD").replace(/\p{M}/gu, "").replace(/đ/gi, "d").toLowerCase();

function places(f) {
  const chosen = [...document.querySelectorAll("#communes input:checked")].map((c) => ({ id: c.value }));
  for (const line of f.others.value.split("\n")) {
    const [id, ...name] = line.trim().split(/\s+/);
    if (id) chosen.push({ id, name: name.join(" ") });
  }
  return chosen;
}

async function setup(secret) {
  const form = document.getElementById("setup");
  const state = await (await fetch("/api/v1/setup")).json();
  if (!state.open) {
    say("closed");
    return;
  }
  form.elements.address.value = location.hostname;
  form.elements.language.value = language;
  form.elements.language.addEventListener("change", () => { language = form.elements.language.value; translate(); });
  for (const c of state.communes) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = c.id;
    label.append(box, `${c.name} (${c.id})`);
    document.getElementById("communes").append(label);
  }
  const find = document.getElementById("find");
  find.addEventListener("keydown", (e) => { if (e.key === "Enter") e.preventDefault(); });
  find.addEventListener("input", () => {
    for (const label of document.querySelectorAll("#communes label")) {
      label.hidden = !plain(label.textContent).includes(plain(find.value.trim())) && !label.firstChild.checked;
    }
  });
  form.hidden = false;
  submit(form, async (f) => {
    if (f.password.value !== f.again.value) return "differ";
    const name = f.name.value, password = f.password.value;
    const fault = await send("/api/v1/setup", { secret, name, password, language, address: f.address.value, sites: places(f) });
    if (fault) return fault;
    keep("language", language);
    history.replaceState(null, "", "/login");
    // The hub may be starting anew with the sites: it takes a moment.
    for (let i = 0; i < 30; i++) {
      await new Promise((done) => setTimeout(done, 500));
      try {
        if (!(await send("/api/v1/session", { name, password }))) return onward();
      } catch { /* not back yet */ }
    }
    return "failed";
  });
}

async function begin() {
  translate();
  const [kind, secret] = location.hash.slice(1).split("=");
  if (kind === "setup" && secret) return setup(secret);
  if (kind === "kiosk" && secret) {
    history.replaceState(null, "", "/login" + location.search);
    const fault = await send("/api/v1/session", { token: secret });
    return fault ? say("closed") : onward();
  }
  document.getElementById("login").hidden = false;
}
begin().catch(() => say("failed"));
