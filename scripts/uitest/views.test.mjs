// The views beside the alerts: places, devices, series, rules, reports.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, afterEach, before, test } from "node:test";
import { Browser, texts } from "./browser.mjs";
import { Empty, Line, command, until } from "./programs.mjs";

let line, browser;

before(async () => {
  line = await Line.start();
  browser = await Browser.start(line.url);
  await until("all devices are known", async () => (await line.get("devices")).items.length === 8);
  await until("alerts have come and gone", async () => (await line.get("alerts?state=cleared")).items.length > 1);
});

after(async () => {
  await browser?.stop();
  await line?.stop();
});

afterEach(() => browser.close());

async function csv(page, click) {
  const [file] = await Promise.all([page.waitForEvent("download"), click()]);
  const text = await readFile(await file.path(), "utf8");
  assert.equal(text.charCodeAt(0), 0xfeff, "Excel wants a mark before UTF-8");
  return text.slice(1).trim().split("\r\n");
}

test("the map shows the sites, and what is at a chosen one", async () => {
  const page = await browser.open("#/map?site=24846");
  await page.locator(".bigmap canvas").waitFor();
  await until("the three places are named", async () => (await page.locator(".leaflet-tooltip").count()) === 3);
  await page.locator("h2", { hasText: "Phường Lang Biang - Đà Lạt" }).waitFor();
  await page.getByRole("link", { name: "market-air" }).waitFor();
  await browser.accessible("the map");
  await browser.picture("page-map");
});

test("devices say what is wrong and what to do", async () => {
  const page = await browser.open("#/fleet");
  await until("all devices are listed", async () => (await page.locator(".devrow").count()) === 8);
  await browser.accessible("devices");
  const down = page.locator(".devrow.bad", { hasText: "bridge" });
  await down.waitFor(); // it does not answer from time to time
  assert.match(await down.textContent(), /không trả lời.*Kiểm tra nguồn điện/);
  await browser.picture("page-devices");
  await page.locator(".search").fill("renke");
  await until("the list is searched", async () => (await page.locator(".devrow").count()) === 1);
  await page.getByRole("link", { name: "air-01" }).click();
  const card = page.locator(".card", { hasText: "PM2.5" }).locator("b");
  const first = await card.textContent();
  assert.match(first, /^[\d.,]+ µg\/m³$/);
  await until("the value changes by itself", async () => (await card.textContent()) !== first);
  await browser.picture("page-device", { clip: { x: 0, y: 0, width: 1366, height: 500 } });
  await page.goto(`${line.url}/#/edge/lang-biang-01`);
  await page.getByText("Đang kết nối").first().waitFor();
  await browser.accessible("an edge");
});

test("a technician asks the gateway: doctor, why, and the log as it is written", async () => {
  const page = await browser.open("#/edge/lang-biang-01");
  const panel = page.getByRole("region", { name: "Hỏi bộ thu" });
  const told = panel.locator("pre");
  await panel.getByRole("button", { name: "Khám máy" }).click();
  await until("doctor says how the gateway is", async () => /^(ok|MEND) {2,}version/.test(await told.textContent()));
  await panel.getByText(/\d+ bản tin/).waitFor();
  assert.match(await told.textContent(), /agent\s+lang-biang-01 runs/);
  await browser.accessible("an edge that was asked");
  await browser.picture("page-asked");
  await panel.getByRole("button", { name: "Theo dõi nhật ký" }).click();
  await panel.getByRole("button", { name: "Dừng" }).waitFor();
  await until("the log is shown", async () => /level=INFO/.test(await told.textContent()));
  const before = (await told.textContent()).split("configuration reloaded").length;
  line.edge.child.kill("SIGHUP");
  await until("what is logged appears by itself", async () => (await told.textContent()).split("configuration reloaded").length > before);
  await panel.getByRole("button", { name: "Dừng" }).click();
  await panel.getByText("Đã dừng.").waitFor();
  await page.goto(`${line.url}/#/device/lang-biang-01/air-01`);
  await panel.getByRole("button", { name: "Vì sao im lặng?" }).click();
  await until("why walks from the device to the hub", async () => /ok\s+hub/.test(await told.textContent()));
  // Who may not ask is not offered it, and a gateway that forbids it says so.
  await page.route("**/api/v1/edges?*", async (r) => {
    const list = await (await r.fetch()).json();
    await r.fulfill({ json: { ...list, items: list.items.map((e) => ({ ...e, ask: "off" })) } });
  });
  await page.goto(`${line.url}/#/edge/lang-biang-01`);
  await page.reload();
  await panel.getByText(/không cho hỏi từ xa/).waitFor();
  await page.route("**/api/v1/session", (r) => r.fulfill({ json: { name: "Hùng", role: "operator", groups: [], token: false, auth: true } }));
  await page.reload();
  await page.locator(".own .name").waitFor();
  await page.getByText("Đang kết nối").first().waitFor();
  assert.equal(await panel.count(), 0);
});

test("a device is put under maintenance and taken back", async () => {
  const page = await browser.open("#/device/lang-biang-01/junction");
  await page.getByRole("button", { name: /Ngừng sử dụng/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Lưu" }).click();
  await page.locator(".chip", { hasText: "Bảo trì" }).waitFor();
  assert.equal((await line.get("holds?kind=maintenance")).items[0].device, "junction");
  await page.getByRole("button", { name: "Kết thúc" }).click();
  await until("it has ended", async () => (await line.get("holds?kind=maintenance")).items.length === 0);
});

test("series are picked, compared, zoomed and exported", async () => {
  const page = await browser.open(`#/series?from=${Date.now() - 600_000}&to=${Date.now()}`);
  await page.getByLabel("Đại lượng").selectOption({ label: "Bụi mịn PM2.5" });
  await page.locator(".picker li", { hasText: "air-01" }).getByRole("checkbox").check();
  await page.locator(".picker li", { hasText: "market-air" }).getByRole("checkbox").check();
  await until("both are plotted", async () => (await page.locator("tbody tr .swatch").count()) === 2);
  const before = new URL(page.url()).hash;
  const box = await page.locator(".plot .u-over").first().boundingBox();
  await page.mouse.move(box.x + box.width * 0.7, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width - 2, box.y + 60, { steps: 4 });
  await page.mouse.up();
  await until("a part is looked at", async () => new URL(page.url()).hash !== before);
  const span = new URLSearchParams(new URL(page.url()).hash.split("?")[1]);
  assert.ok(Number(span.get("to")) - Number(span.get("from")) < 400_000);
  const lines = await csv(page, () => page.getByRole("button", { name: "Tải CSV" }).click());
  assert.equal(lines[0], "time,site,edge,device,point,quantity,unit,value,min,max,late");
  assert.ok(lines.length > 5 && lines.some((l) => l.includes("market-air")), `${lines.length} lines`);
  const now = Date.now();
  await page.goto(`${line.url}/#/series?s=lang-biang-01/air-01/pm2_5&s=lang-biang-01/market-air/pm2_5&from=${now - 365 * 86400_000}&to=${now}`);
  await page.getByText(/trung bình, thấp nhất – cao nhất: \d/).waitFor(); // a year is read in steps
  await page.goto(`${line.url}/#/series?s=lang-biang-01/air-01/pm2_5&s=lang-biang-01/market-air/pm2_5&from=${now - 40_000}&to=${now}`);
  await page.getByText(/từng số đo/).waitFor(); // and a minute reading by reading
  await browser.accessible("series");
  await browser.picture("page-series");
});

test("when an edge did not look is shaded, on its page and beside the readings", async () => {
  const seen = async () => (await line.get("edges")).items.find((e) => e.id === "lang-biang-01").unobserved;
  const before = await seen();
  await line.edge.stop("SIGKILL");
  const killed = Date.now();
  const away = await browser.open("#/fleet?kind=edges");
  await away.locator(".devrow.bad", { hasText: "Mất kết nối" }).waitFor();
  await browser.picture("page-edge-away", { clip: { x: 0, y: 0, width: 1366, height: 240 } });
  await browser.close();
  await until("it is long enough to be shown to people: 10 s", () => Date.now() - killed > 11_000);
  line.startEdge();
  const blind = (await until("the hub knows that nobody looked", async () => {
    const list = await seen();
    return list.length > before.length && list.at(-1).to ? list : null;
  })).at(-1);
  const [from, to] = [Date.parse(blind.from), Date.parse(blind.to)];
  assert.ok(to > from, `${blind.from} to ${blind.to}`);
  const page = await browser.open("#/edge/lang-biang-01");
  await page.locator(".panel", { hasText: "Không quan sát" }).locator("li").first().waitFor();
  await page.goto(`${line.url}/#/series?s=lang-biang-01/air-01/pm2_5&from=${from - 60_000}&to=${to + 60_000}`);
  await page.locator(".plot .key", { hasText: "không quan sát" }).waitFor();
  await page.goto(`${line.url}/#/series?s=lang-biang-01/air-01/pm2_5&from=${from - 120_000}&to=${from - 60_000}`);
  await page.locator(".plot").or(page.getByText("Không có số đo")).first().waitFor();
  await until("what lies elsewhere is not", async () => (await page.locator(".plot .key", { hasText: "không quan sát" }).count()) === 0);
});

test("rules say what they match; other limits are tried on the past", async () => {
  const page = await browser.open("#/rules");
  await page.locator("tr", { hasText: "stream-level" }).getByText("không khớp chuỗi nào").waitFor();
  await browser.accessible("rules");
  await page.getByRole("link", { name: "Bụi mịn PM2.5 cao" }).click();
  await page.getByLabel(/Các ngưỡng/).fill("30; 5.000");
  await page.getByRole("button", { name: "Thử", exact: true }).click();
  const result = page.locator("tr", { has: page.getByRole("radio") });
  await until("the rule and both limits were tried", async () => (await result.count()) === 3);
  const episodes = await Promise.all([0, 1, 2].map(async (i) => Number(await result.nth(i).locator("td").nth(1).textContent())));
  assert.ok(episodes[0] > 0 && episodes[1] > 0, `episodes ${episodes}`);
  assert.equal(episodes[2], 0, "5,000 µg/m³ has not been");
  await page.locator(".plot canvas").first().waitFor();
  await page.getByRole("region", { name: "Số chuỗi theo dõi" }).getByRole("link", { name: "market-air" }).waitFor();
  await browser.accessible("a rule");
  await browser.picture("page-rule");
});

test("a report of the day, to print and as CSV", async () => {
  const page = await browser.open("#/reports?period=day");
  const row = page.locator("tr", { hasText: "Phường Lang Biang - Đà Lạt" }).first();
  await until("the report is made", async () => (await row.count()) > 0);
  await until("it has readings of the day, which may just have begun", async () => {
    if (/µg\/m³/.test(await row.textContent())) return true;
    await page.reload();
    return false;
  });
  await browser.accessible("a report");
  const lines = await csv(page, () => page.getByRole("button", { name: "Tải CSV" }).click());
  assert.match(lines[0], /^Địa bàn,ID,Từ,Đến,Cảnh báo phát sinh/);
  assert.equal(lines.length, 1 + 1 + 3, "a head, the whole, and three sites");
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.locator("header.bar").isVisible(), false);
  assert.equal(await row.isVisible(), true);
  const pdf = await page.pdf({ format: "A4" });
  assert.ok(pdf.length > 10_000 && pdf.subarray(0, 5).toString() === "%PDF-");
  await browser.picture("page-report", { fullPage: true });
});

test("history is filtered and exported", async () => {
  const page = await browser.open("#/history");
  await until("alerts are listed", async () => (await page.locator(".alert").count()) > 0);
  await page.getByLabel("Mức").selectOption("critical");
  await until("only critical ones", async () => {
    const all = await texts(page.locator(".alert .badge"));
    return all.every((s) => s.includes("Nghiêm trọng"));
  });
  await page.getByLabel("Mức").selectOption("");
  await until("all again", async () => (await page.locator(".alert.warning").count()) > 0);
  const lines = await csv(page, () => page.getByRole("button", { name: "Tải CSV" }).click());
  assert.ok(lines.length > 2 && lines[1].includes("Phường Lang Biang - Đà Lạt"));
  await browser.accessible("history");
});

test("who has signed in acts under that name; who may only look finds nothing to press", async () => {
  let role = "operator";
  const page = await browser.open("icon.svg", { who: "" });
  await page.route("**/api/v1/session", (r) => r.fulfill({ json: { name: "Trần Văn Hùng", role, groups: [], token: false, auth: true } }));
  await page.goto(`${line.url}/`);
  await page.locator(".own .name", { hasText: "Trần Văn Hùng" }).waitFor();
  await page.getByRole("button", { name: "Đăng xuất" }).waitFor();
  await page.locator(".alert button.ack").first().waitFor();
  assert.equal(await page.locator(".who input").count(), 0, "the name is not asked for");
  role = "viewer";
  await page.reload();
  await page.locator(".own .name").waitFor();
  await page.locator(".alert").first().waitFor();
  await until("there is nothing to press", async () => (await page.locator(".alert button").count()) === 0);
  await page.unroute("**/api/v1/session");
  await page.route("**/api/v1/alerts/counts", (r) => r.fulfill({ status: 401, json: { title: "sign in first" } }));
  await page.waitForURL(/\/login\?next=%2F/); // a session that is over
});

test("the gateway's own page lets in who has the code, and shows what the gateway knows", async () => {
  const said = await command("langbiang-edge", ["page", "open", "--config", line.edgeFile, "--listen", "127.0.0.1:0"]);
  const other = await Browser.start(said.match(/http:\S+[0-9]/)[0]);
  try {
    await browser.open("icon.svg"); // for afterEach
    const page = await other.open("", { viewport: { width: 390, height: 844 } });
    const code = page.getByLabel("Mã đã in trên gateway");
    await code.fill("0000 0000");
    await page.getByRole("button", { name: "Vào" }).click();
    await page.getByText("Sai mã, hoặc mã đã dùng").waitFor();
    await other.picture("edge-page-code", { clip: { x: 0, y: 0, width: 390, height: 290 } });
    await code.fill(said.match(/\d{4} \d{4}/)[0]);
    await page.getByRole("button", { name: "Vào" }).click();
    const down = page.locator("section.bad", { hasText: "bridge" });
    await down.waitFor(); // it does not answer from time to time
    assert.match(await down.textContent(), /lane_1_counthỏng: không trả lời/);
    await other.accessible("the gateway's page");
    await other.picture("edge-page", { fullPage: true, clip: { x: 0, y: 0, width: 390, height: 1280 } });
    await other.close();
  } finally {
    await other.stop();
  }
});

test("an empty system tells the next step", async () => {
  const empty = await Empty.start();
  const other = await Browser.start(empty.url);
  try {
    await browser.open("icon.svg"); // for afterEach
    const page = await other.open("#/");
    await page.getByText("Bắt đầu: khai báo địa bàn").waitFor();
    await page.getByText("Không có cảnh báo nào đang diễn ra.").waitFor();
    await other.accessible("an empty system");
    for (const view of ["map", "fleet", "series", "rules", "reports", "history"]) {
      await page.goto(`${empty.url}/#/${view}`);
      await page.locator(".empty").first().waitFor();
    }
    await other.close();
  } finally {
    await other.stop();
    await empty.stop();
  }
});
