// What an operator sees: make test-ui. With SCREENSHOTS=FOLDER the pictures of
// the documentation are taken anew.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Line, until } from "./programs.mjs";

let line, browser, page, foreign, faults;

before(async () => {
  line = await Line.start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
});

after(async () => {
  await browser?.close();
  await line?.stop();
});

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "vi-VN", timezoneId: "Asia/Ho_Chi_Minh", ...options });
  page = await context.newPage();
  foreign = [];
  faults = [];
  page.on("request", (r) => { if (!r.url().startsWith(line.url)) foreign.push(r.url()); });
  page.on("pageerror", (e) => faults.push(String(e)));
  await page.goto(line.url);
  return page;
}

afterEach(async () => {
  assert.deepEqual(foreign, [], "the page asked another host");
  assert.deepEqual(faults, [], "the page's script failed");
  await page.context().close();
});

const alerts = () => page.locator("#alerts > li");
const texts = async (locator) => (await locator.allTextContents()).map((s) => s.trim());

async function picture(name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png` });
}

test("an alert appears and clears without a reload", async () => {
  await open();
  await page.evaluate(() => { window.loadedOnce = true; });
  await until("an active alert is shown", async () => (await page.locator("#alerts > li.active").count()) > 0);
  await until("a cleared alert is shown", async () => (await page.locator("#alerts > li.cleared").count()) > 0);
  assert.equal(await page.evaluate(() => window.loadedOnce), true);
  assert.match((await texts(alerts())).join(" "), /Bụi PM2.5 tại Phường Lang Biang - Đà Lạt/);
  assert.match(await page.locator("#link").textContent(), /trực tiếp/);
});

test("sites show live values as the devices give them", async () => {
  await open();
  const card = page.locator(".device", { has: page.locator("h4", { hasText: "air-01" }) });
  await card.first().waitFor();
  await until("all devices of the edge are shown", async () => (await page.locator(".device").count()) === 8);
  const row = card.locator("tr", { hasText: "PM2.5" });
  const first = await row.locator("td").last().textContent();
  assert.match(first, /^[\d.,]+ µg\/m³$/);
  await until("the value changes by itself", async () => (await row.locator("td").last().textContent()) !== first);
});

test("the language changes and is remembered", async () => {
  await open();
  assert.equal(await page.locator("html").getAttribute("lang"), "vi");
  await page.locator("#lang").click();
  assert.equal(await page.locator("#alerts-title").textContent(), "Alerts");
  await until("messages are English", async () => (await texts(alerts())).some((s) => /^(Warning|Critical).*PM2.5 at /.test(s)));
  await page.reload();
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
  await until("alerts are shown again", async () => (await page.locator("#alerts > li.active").count()) > 1 && (await page.locator(".device").count()) === 8);
  await picture("page");
});

test("a hub that is killed under an open page is missed, and comes back without a loss", async () => {
  await open();
  await until("alerts are shown", async () => (await alerts().count()) > 0);
  const before = (await line.get("alerts?limit=1000")).items.map((a) => a.id);
  await line.killHub();
  await until("the page says that it is cut off", async () => /đang nối lại|đang kết nối/.test(await page.locator("#link").textContent()));
  await until("a stale page says so in large letters", async () => page.locator("#stale").isVisible());
  await line.startHub();
  await until("the page is live again", async () => (await page.locator("#link.live").count()) === 1 && !(await page.locator("#stale").isVisible()));
  const kept = new Set((await line.get("alerts?limit=1000")).items.map((a) => a.id));
  assert.deepEqual(before.filter((id) => !kept.has(id)), [], "alerts are gone after the restart");
  await until("a new alert or a change comes in by the stream", async () => {
    const newest = (await line.get("alerts?limit=1")).items[0];
    return !before.includes(newest.id) && (await texts(alerts())).some((s) => s.includes(newest.message.vi));
  });
});

test("a phone and the dark have the whole page", async () => {
  await open({ viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  await until("alerts are shown", async () => (await alerts().count()) > 0);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wide <= 0, `the page is ${wide} px wider than the phone`);
  await picture("page-phone");
});
