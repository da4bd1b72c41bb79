// Who gets in: the first start's link, the sign-in, a screen's token, on a hub
// where nothing is open. With SCREENSHOTS=FOLDER the pictures are taken anew.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, afterEach, before, test } from "node:test";
import { Browser, shown } from "./browser.mjs";
import { Guarded, until } from "./programs.mjs";

process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0"; // the hub's own authority, which this process does not know

const strange = { ignoreHTTPSErrors: true, who: "" };
const admin = { name: "quan-tri", password: "mua-tren-nui-Langbiang" };
let hub, browser;

before(async () => {
  hub = await Guarded.start();
  browser = await Browser.start(hub.url);
});

after(async () => {
  await browser?.stop();
  await hub?.stop();
});

afterEach(() => browser.close());

async function signIn(page, { name, password }) {
  const form = page.locator("form#login");
  await form.getByLabel("Tên đăng nhập").fill(name);
  await form.getByLabel("Mật khẩu").fill(password);
  await form.getByRole("button", { name: "Đăng nhập" }).click();
}

test("the first start's link leads through language, administrator and communes to the page, once", async () => {
  const link = await until("the hub prints its link", () => hub.hub.output.match(/https:\S+#setup=[\w-]+/)?.[0]);
  const path = link.slice(link.indexOf("/login") + 1);
  const page = await browser.open(path, strange);
  await page.getByLabel("Ngôn ngữ").selectOption("en");
  await page.getByText("First start: make the administrator.").waitFor();
  await page.getByLabel("Language").selectOption("vi");
  await page.getByLabel("Tên quản trị viên").fill(admin.name);
  await page.getByLabel("Mật khẩu (ít nhất 10 ký tự)").fill(admin.password);
  await page.getByLabel("Nhập lại mật khẩu").fill("khác");
  await page.getByLabel("Tìm theo tên hoặc mã").fill("lac duong");
  await until("one commune is left of them", async () => (await page.locator("#communes label:visible").count()) === 1);
  await page.locator("#communes label:visible input").check();
  await page.getByRole("button", { name: "Hoàn tất" }).click();
  await page.getByText("Hai mật khẩu không giống nhau.").waitFor();
  await browser.accessible("the setup");
  await browser.picture("page-setup", { fullPage: true });
  await page.getByLabel("Nhập lại mật khẩu").fill(admin.password);
  await page.getByRole("button", { name: "Hoàn tất" }).click();
  await page.locator(".own .name", { hasText: admin.name }).waitFor();
  await browser.close();
  const again = await browser.open(path, strange);
  await again.getByText("Liên kết này đã được dùng hoặc không còn hiệu lực.").waitFor();
  assert.equal(await again.locator("form:visible").count(), 0);
});

test("who has not signed in sees the sign-in alone, and then what was asked for", async () => {
  const page = await browser.open("#/fleet", strange);
  await page.waitForURL(/\/login\?next=/);
  await signIn(page, { ...admin, password: "doan mo mat khau" });
  await page.getByText("Tên hoặc mật khẩu không đúng.").waitFor();
  await browser.accessible("the sign-in");
  await browser.picture("page-login", { clip: { x: 383, y: 260, width: 600, height: 360 } });
  await signIn(page, admin);
  await page.locator("h1", { hasText: "Thiết bị" }).waitFor();
  assert.equal(await page.evaluate(() => document.cookie), "", "a script can read the session");
  await page.getByRole("button", { name: "Đăng xuất" }).click();
  await page.waitForURL(/\/login/);
  await page.goto(`${hub.url}/#/`);
  await page.waitForURL(/\/login/);
});

test("after signing in nobody is sent to another site", async () => {
  const page = await browser.open("login?next=https%3A%2F%2Fevil.example%2F", strange);
  await signIn(page, admin);
  await shown(page);
  assert.ok(page.url().startsWith(hub.url), page.url());
});

test("a screen's token shows the wall within another vendor's page, and grants nothing else", async () => {
  const said = await hub.command("tokens", "new", "wall-1", "--kiosk", "--ttl", "never");
  const link = said.match(/https:\S+#kiosk=\S+/)?.[0] ?? assert.fail(said);
  const vendor = createServer((_, w) => w.setHeader("Content-Type", "text/html").end(`<!doctype html><title>IOC</title><iframe title="wall" width="1200" height="700" src="${link}"></iframe>`));
  await new Promise((done) => vendor.listen(hub.vendor, "127.0.0.1", done));
  try {
    const page = await browser.open("login", strange);
    browser.foreign = { push() { /* the vendor's page is another host */ } };
    await page.goto(`http://localhost:${hub.vendor}/`);
    const frame = page.frameLocator("iframe");
    await until("the wall shows alerts in the frame", async () => (await frame.locator(".wall .lines li").count()) > 0);
    const wall = page.frames().find((f) => f.url().startsWith(hub.url));
    assert.ok(!wall.url().includes("kiosk="), "the token stands in the address");
    const refused = await wall.evaluate(async () => (await fetch("/api/v1/users")).status);
    assert.equal(refused, 403);
    browser.foreign = [];
  } finally {
    await new Promise((done) => vendor.close(done));
  }
});
