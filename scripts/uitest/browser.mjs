// A browser that minds what the page does beside what it is asked to.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { patience, until } from "./programs.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export class Browser {
  static async start(url) {
    const b = new Browser();
    b.url = url;
    b.chromium = await chromium.launch({
      executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
    return b;
  }

  stop() { return this.chromium.close(); }

  // open shows a view; who is on duty has said so, unless that is what is tested.
  async open(hash = "#/", { who = "Lan", lang = "", watch = "", ...options } = {}) {
    this.context = await this.chromium.newContext({ viewport: { width: 1366, height: 900 }, locale: "vi-VN", timezoneId: "Asia/Ho_Chi_Minh", acceptDownloads: true, ...options });
    this.context.setDefaultTimeout(patience);
    const page = await this.context.newPage();
    this.page = page;
    this.foreign = [];
    this.faults = [];
    page.on("request", (r) => { if (!r.url().startsWith(this.url) && !r.url().startsWith("blob:")) this.foreign.push(r.url()); });
    page.on("pageerror", (e) => this.faults.push(String(e.stack ?? e)));
    page.on("console", (m) => { if (/Content Security Policy|Refused to/.test(m.text())) this.faults.push(m.text()); });
    await page.addInitScript(([w, l]) => {
      try {
        if (w && localStorage.getItem("who") === null) localStorage.setItem("who", w);
        if (l && localStorage.getItem("lang") === null) localStorage.setItem("lang", l);
      } catch { /* a page without storage */ }
    }, [who, lang]);
    if (watch) { // when something is first on the screen
      await page.addInitScript((what) => {
        const seen = new MutationObserver(() => {
          if (!document.querySelector(what)) return;
          seen.disconnect();
          requestAnimationFrame(() => setTimeout(() => { window.seenAt = performance.now(); }));
        });
        seen.observe(document, { childList: true, subtree: true });
      }, watch);
    }
    await page.goto(`${this.url}/${hash}`);
    return page;
  }

  async close() {
    assert.deepEqual(this.foreign, [], "the page asked another host");
    assert.deepEqual(this.faults, [], "the page's script failed or met its policy");
    await this.context.close();
  }

  async picture(name, options = {}) {
    if (process.env.SCREENSHOTS) await this.page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, ...options });
  }

  // accessible lets axe look at the page; it is injected by the debugger, which
  // the page's policy does not bind.
  async accessible(what) {
    const found = await this.page.evaluate(`(() => { const module = undefined; ${axe}; return window.axe.run(document, { resultTypes: ["violations"] }).then((r) =>
      r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id + " (" + v.impact + "): " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + (n.any[0]?.message ?? "")).join(" | "))); })()`);
    assert.deepEqual(found, [], `axe on ${what}`);
  }
}

export const rows = (page) => page.locator(".alertlist .alert");
export const texts = async (locator) => (await locator.allTextContents()).map((s) => s.trim());
export const shown = (page) => until("alerts are shown", async () => (await rows(page).count()) > 0);
