// The programs under test, as processes: a hub, a simulated field, one edge.
// Everything they write stands in a folder of its own; ports are free ones.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

// until polls a condition of another process until it holds.
export async function until(what, cond, limit = 30_000) {
  const end = Date.now() + limit;
  for (;;) {
    const value = await cond();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${limit / 1000} s: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

class Program {
  constructor(name, args) {
    this.output = "";
    this.child = spawn(join(root, "bin", name), args, { stdio: ["ignore", "pipe", "pipe"] });
    this.ended = new Promise((done) => this.child.on("exit", done));
    for (const out of [this.child.stdout, this.child.stderr]) out.on("data", (b) => { this.output = (this.output + b).slice(-20_000); });
  }

  async stop(signal) {
    this.child.kill(signal);
    await this.ended;
  }
}

// Line is the whole line from device to page, for the site of phường Lang Biang - Đà Lạt.
export class Line {
  static async start() {
    const line = new Line();
    line.dir = await mkdtemp(join(tmpdir(), "langbiang-ui-"));
    const [http, mqtt, modbus, broker] = [await freePort(), await freePort(), await freePort(), await freePort()];
    line.url = `http://127.0.0.1:${http}`;
    line.hubArgs = ["run", "--config", join(root, "configs/demo/hub.yaml"), "--data-dir", join(line.dir, "hub"),
      "--http.listen", `127.0.0.1:${http}`, "--mqtt.listen", `127.0.0.1:${mqtt}`];
    const ptys = [1, 2, 3].map((n) => join(line.dir, `ttyBUS${n}`));
    const config = (await readFile(join(root, "configs/demo/edge-lang-biang.yaml"), "utf8"))
      .replace("127.0.0.1:1883", `127.0.0.1:${mqtt}`).replace("127.0.0.1:5020", `127.0.0.1:${modbus}`)
      .replace("127.0.0.1:1884", `127.0.0.1:${broker}`).replace("../../data/demo/ttyBUS2", ptys[1])
      .replace("../../data/demo/lang-biang-01", join(line.dir, "edge"));
    await writeFile(join(line.dir, "edge.yaml"), config);
    await line.startHub();
    line.field = new Program("fieldsim", ["--modbus-tcp", `127.0.0.1:${modbus}`, "--mqtt", `127.0.0.1:${broker}`, ...ptys.flatMap((p) => ["--pty", p])]);
    line.edge = new Program("langbiang-edge", ["run", "--config", join(line.dir, "edge.yaml")]);
    return line;
  }

  async startHub() {
    this.hub = new Program("langbiang-hub", this.hubArgs);
    await until("the hub is ready", async () => {
      if (this.hub.child.exitCode !== null) throw new Error(`the hub ended:\n${this.hub.output}`);
      return fetch(`${this.url}/readyz`).then((r) => r.ok, () => false);
    });
  }

  async killHub() { await this.hub.stop("SIGKILL"); }

  async get(path) {
    const r = await fetch(`${this.url}/api/v1/${path}`);
    if (!r.ok) throw new Error(`${path}: ${r.status} ${await r.text()}`);
    return r.json();
  }

  async stop() {
    for (const p of [this.field, this.edge, this.hub]) if (p) await p.stop("SIGINT");
    await rm(this.dir, { recursive: true, force: true });
  }
}
