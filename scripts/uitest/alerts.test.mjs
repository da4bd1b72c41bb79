// What an operator does with alerts, on the whole line: make test-ui. With
// SCREENSHOTS=FOLDER the pictures of the documentation are taken anew.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { Browser, rows, shown, texts } from "./browser.mjs";
import { Line, until } from "./programs.mjs";

let line, browser;

before(async () => {
  line = await Line.start();
  browser = await Browser.start(line.url);
});

after(async () => {
  await browser?.stop();
  await line?.stop();
});

afterEach(() => browser.close());

const alert = (id) => line.get(`alerts/${id}`);
const ids = async () => (await line.get("alerts?limit=1000")).items.map((a) => a.id);

// held picks an alert that nobody has taken on and shows it alone, so that the
// list does not move while it is acted upon.
async function one(page, state = "cleared") {
  const found = await until(`an alert that is ${state}`, async () => (await line.get(`alerts?state=${state}&limit=100`)).items.find((a) => !a.acknowledged && !a.closed && !a.shelved_until));
  if (page) await page.goto(`${line.url}/#/alert/${found.id}`);
  return found;
}

test("an alert appears and clears without a reload", async () => {
  const page = await browser.open();
  await page.evaluate(() => { window.loadedOnce = true; });
  await until("an active alert is shown", async () => (await page.locator(".alert.active").count()) > 0);
  await until("a cleared alert fades", async () => (await page.locator(".alert.cleared").count()) > 0);
  const before = await ids();
  const fresh = await until("an alert that was not there before", async () => (await ids()).find((id) => !before.includes(id)));
  await page.locator(`.alert[data-id="${fresh}"]`).waitFor();
  assert.equal(await page.evaluate(() => window.loadedOnce), true);
  assert.match((await texts(rows(page))).join(" "), /Bụi PM2.5 tại Phường Lang Biang - Đà Lạt/);
  assert.match(await page.locator("#link").textContent(), /Trực tiếp.*sự kiện cuối: \d\d:\d\d/);
});

test("the first act asks for a name, which is remembered; the act can be undone", async () => {
  const page = await browser.open("#/", { who: "" });
  const a = await one(page);
  await page.locator("h1", { hasText: "PM2.5" }).or(page.locator("h1", { hasText: "bridge" })).first().waitFor();
  await page.getByRole("button", { name: "Xác nhận", exact: true }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/Tên của bạn/).fill("Nguyễn Thị Lan");
  await dialog.getByRole("button", { name: "Xác nhận", exact: true }).click();
  await until("it is acknowledged by that name", async () => (await alert(a.id)).acknowledgement?.by === "Nguyễn Thị Lan");
  await page.locator(".toast button", { hasText: "Hoàn tác" }).click(); // it is offered for ten seconds
  await until("it is taken back", async () => !(await alert(a.id)).acknowledged);
  await page.locator(".log li", { hasText: "Nguyễn Thị Lan" }).first().waitFor();
  await page.reload();
  assert.equal(await page.locator(".who input").inputValue(), "Nguyễn Thị Lan");
});

test("comment, assign and close with a cause, on the alert's page, by the keyboard", async () => {
  const page = await browser.open();
  const a = await one(page);
  await page.locator(".plot canvas").first().waitFor();
  await page.keyboard.press("c");
  await page.getByRole("dialog").getByLabel("Nội dung ghi chú").fill("đã gọi trạm, <b>chờ</b> trả lời");
  await page.getByRole("dialog").getByRole("button", { name: "Ghi chú" }).click();
  await page.locator(".log q", { hasText: "đã gọi trạm, <b>chờ</b> trả lời" }).waitFor();
  await page.keyboard.press("g");
  await page.getByRole("dialog").getByLabel("Giao cho ai").fill("Hùng");
  await page.getByRole("dialog").getByRole("button", { name: "Giao việc" }).click();
  await until("it is Hùng's", async () => (await alert(a.id)).assignee === "Hùng");
  await page.locator(".chip", { hasText: "→ Hùng" }).waitFor();
  await page.keyboard.press("d");
  await page.getByRole("dialog").getByLabel("Nguyên nhân").selectOption("sensor_fault");
  await browser.picture("page-close");
  await page.getByRole("dialog").getByRole("button", { name: "Đóng cảnh báo" }).click();
  await until("it is closed", async () => (await alert(a.id)).closed?.cause === "sensor_fault");
  await page.getByText("Đã đóng: Lỗi cảm biến").waitFor();
  if (a.rule === "pm25-high") assert.equal(await page.getByRole("link", { name: /Quy trình/ }).first().getAttribute("href"), "https://ioc.example/quy-trinh/bui-min");
  await until("the plot says what it shows", async () => /µg\/m³|Thời gian cảnh báo/.test((await texts(page.locator(".plot .key"))).join(" ")));
  await browser.accessible("an alert");
  while (await page.locator(".toast .x").count()) await page.locator(".toast .x").first().click();
  await browser.picture("page-alert", { fullPage: true });
});

test("many at once: chosen by the keyboard, acknowledged, undone", async () => {
  const page = await browser.open();
  await page.getByRole("button", { name: "Cần xác nhận" }).click();
  await until("two are to be acknowledged", async () => (await rows(page).count()) >= 2);
  for (const key of ["j", "x", "j", "x"]) await page.keyboard.press(key);
  await page.getByText("2 đang chọn").waitFor();
  const chosen = await page.locator(".alert.selected").evaluateAll((list) => list.map((e) => e.dataset.id));
  assert.equal(chosen.length, 2);
  await page.keyboard.press("a");
  await until("both are acknowledged", async () => (await Promise.all(chosen.map(alert))).every((a) => a.acknowledged && a.acknowledgement.by === "Lan"));
  await page.locator(".toast", { hasText: "Đã xác nhận 2 cảnh báo" }).waitFor();
  await page.keyboard.press("u");
  await until("both are taken back", async () => (await Promise.all(chosen.map(alert))).every((a) => !a.acknowledged));
});

test("shelving has an end, and can be ended before", async () => {
  const page = await browser.open();
  const a = await one(page, "active");
  await page.getByRole("button", { name: "Tạm gác" }).click();
  await page.getByRole("dialog").getByLabel("Gác trong bao lâu").selectOption("30m");
  await page.getByRole("dialog").getByLabel(/Lý do/).fill("đang hiệu chuẩn");
  await browser.picture("page-shelve");
  await page.getByRole("dialog").getByRole("button", { name: "Tạm gác" }).click();
  // It may have cleared in between; then the hub says so, and nothing is shelved.
  await until("it is shelved, or the page says why not", async () => (await alert(a.id)).shelved_until || (await page.locator(".toast.bad").count()) > 0);
  const holds = (await line.get("holds?kind=shelved")).items;
  if (holds.length === 0) return;
  const minutes = (Date.parse(holds[0].until) - Date.now()) / 60_000;
  assert.ok(minutes > 28 && minutes <= 30, `for ${minutes} minutes`);
  await page.locator(".toast button", { hasText: "Hoàn tác" }).click();
  await until("nothing is shelved", async () => (await line.get("holds?kind=shelved")).items.length === 0);
});

test("a hub that is killed under an open page is missed, and comes back without a loss", async () => {
  const page = await browser.open();
  await shown(page);
  await page.locator(".map canvas").waitFor();
  const before = await ids();
  await line.killHub();
  await until("the page says that it is cut off", async () => /Đang nối lại/.test(await page.locator("#link").textContent()));
  await until("a stale page says so in large letters", async () => page.locator("#stale").isVisible());
  assert.match(await page.locator("#stale").textContent(), /MẤT KẾT NỐI VỚI MÁY CHỦ.*dừng lại lúc \d\d:\d\d:\d\d/);
  await browser.picture("page-stale");
  await line.startHub();
  await until("the page is live again", async () => (await page.locator("#link.live").count()) === 1 && !(await page.locator("#stale").isVisible()));
  const kept = new Set(await ids());
  assert.deepEqual(before.filter((id) => !kept.has(id)), [], "alerts are gone after the restart");
  const newest = await until("an alert after the restart", async () => (await ids()).find((id) => !before.includes(id)));
  await page.locator(`.alert[data-id="${newest}"]`).waitFor();
  await page.getByRole("button", { name: "Vừa hết" }).click();
  await until("the page holds every alert of the log", async () => {
    const over = (await line.get("alerts?state=cleared&limit=1000")).items.length;
    const said = Number((await page.locator(".pick").first().textContent()).replace(/\D/g, ""));
    return Math.abs(over - said) <= 1; // one may clear between the two looks
  });
});

test("the language changes and is remembered", async () => {
  const page = await browser.open();
  assert.equal(await page.locator("html").getAttribute("lang"), "vi");
  await page.locator("#lang").click();
  await page.locator("nav").getByText("Overview").waitFor();
  await until("messages are English", async () => (await texts(rows(page))).some((s) => /PM2.5 at |does not answer/.test(s)));
  await page.reload();
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
  await until("alerts are shown again", async () => (await page.locator(".alert.active").count()) > 0);
});

test("light, dark and phone: all of it fits, and axe finds nothing serious", async () => {
  for (const [name, options] of [
    ["page", {}],
    ["page-dark", { colorScheme: "dark" }],
    ["page-phone", { viewport: { width: 390, height: 844 } }],
    ["page-phone-dark", { viewport: { width: 360, height: 740 }, colorScheme: "dark" }],
  ]) {
    if (name !== "page") await browser.close();
    const page = await browser.open("#/", options);
    await until("alerts that call are shown", async () => (await page.locator(".alert.calls").count()) > 0);
    await page.locator(".map canvas").waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `${name} is ${wide} px wider than the screen`);
    await browser.accessible(name);
    if (!name.includes("phone-dark")) await browser.picture(name);
  }
});

test("the keys are told by ?, and the wall has no controls", async () => {
  const page = await browser.open();
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Phím tắt" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.keyboard.press("4");
  await page.locator("h1", { hasText: "Thiết bị" }).waitFor();
  await page.setViewportSize({ width: 1920, height: 1080 });
  await page.goto(`${line.url}/#/wall?theme=dark&seconds=5`);
  await until("the wall shows an alert", async () => (await page.locator(".wall .lines li").count()) > 0);
  await page.evaluate(() => document.fonts.ready);
  await browser.picture("page-wall");
  assert.equal(await page.locator(".wall button, .wall a, .wall input, .wall select").count(), 0);
  await browser.accessible("the wall");
  await page.locator(".wall .map canvas").waitFor(); // the scenes take turns
  await page.locator(".wall .sitegrid").waitFor();
});

test("within a frame of the hub's own origin the wall works", async () => {
  const page = await browser.open("icon.svg");
  await page.goto(`${line.url}/`);
  await page.evaluate(() => {
    const f = document.createElement("iframe");
    f.src = "./#/wall?lang=en";
    f.title = "wall";
    f.width = "1200";
    f.height = "700";
    document.body.replaceChildren(f);
  });
  await page.frameLocator("iframe").locator(".wall #link.live").waitFor();
});
