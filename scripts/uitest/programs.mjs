// The programs under test, as processes: a hub, devices, one edge. Everything
// they write stands in a folder of its own; ports are free ones.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");

// freePort is one for a program that must be told where to listen. It lies below the
// range from which the system takes ports, so nobody is given it in between; the name
// without a file keeps it from other tests until this process ends, those in Go as well.
async function freePort() {
  const listen = (...where) => new Promise((done, failed) => {
    const server = createServer().unref();
    server.once("error", failed).listen(...where, () => done(server));
  });
  const range = await readFile("/proc/sys/net/ipv4/ip_local_port_range", "utf8").catch(() => "");
  const end = Math.max(parseInt(range, 10) || 32_768, 11_000);
  for (let tries = 0; tries < 1000; tries++) {
    const port = 10_000 + Math.floor(Math.random() * (end - 10_000));
    try {
      await listen(`\0langbiang-test-${port}`);
      const server = await listen(port, "127.0.0.1");
      await new Promise((done) => server.close(done));
      return port;
    } catch { /* taken */ }
  }
  throw new Error("no free port");
}

// patience bounds a failure; nothing is expected to take as long, on a busy machine either.
export const patience = 120_000;

// until polls a condition of another process until it holds.
export async function until(what, cond, limit = patience) {
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
    this.ended = new Promise((done) => this.child.on("close", done));
    for (const out of [this.child.stdout, this.child.stderr]) out.on("data", (b) => { this.output = (this.output + b).slice(-20_000); });
  }

  async stop(signal) {
    this.child.kill(signal);
    await this.ended;
  }
}

// command runs a command to its end and returns what it printed.
export async function command(name, args) {
  const p = new Program(name, args);
  const status = await p.ended;
  if (status !== 0) throw new Error(`${name} ${args.join(" ")}: exit status ${status}\n${p.output}`);
  return p.output;
}

// System is a hub with what sends to it.
class System {
  static async folder() {
    const s = new this();
    s.dir = await mkdtemp(join(tmpdir(), "langbiang-ui-"));
    s.others = [];
    s.http = await freePort();
    s.mqtt = await freePort();
    s.url = `http://127.0.0.1:${s.http}`;
    return s;
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
    for (const p of [...this.others, this.hub]) if (p) await p.stop("SIGINT");
    await rm(this.dir, { recursive: true, force: true });
  }
}

// Line is the whole line from device to page, for the site of phường Lang Biang - Đà Lạt.
export class Line extends System {
  static async start() {
    const line = await this.folder();
    const [modbus, broker] = [await freePort(), await freePort()];
    const ptys = [1, 2, 3].map((n) => join(line.dir, `ttyBUS${n}`));
    const config = (await readFile(join(root, "configs/demo/edge-lang-biang.yaml"), "utf8"))
      .replace("127.0.0.1:1883", `127.0.0.1:${line.mqtt}`).replace("127.0.0.1:5020", `127.0.0.1:${modbus}`)
      .replace("127.0.0.1:1884", `127.0.0.1:${broker}`).replace("../../data/demo/ttyBUS2", ptys[1])
      .replace("../../data/demo/lang-biang-01", join(line.dir, "edge"));
    line.edgeFile = join(line.dir, "edge.yaml");
    await writeFile(line.edgeFile, config);
    line.hubArgs = await line.runHub();
    await line.startHub();
    line.others.push(new Program("fieldsim", ["--modbus-tcp", `127.0.0.1:${modbus}`, "--mqtt", `127.0.0.1:${broker}`, ...ptys.flatMap((p) => ["--pty", p])]));
    line.startEdge();
    return line;
  }

  startEdge() { this.others.push(this.edge = new Program("langbiang-edge", ["run", "--config", this.edgeFile])); }

  async runHub() {
    return ["run", "--config", join(root, "configs/demo/hub.yaml"), "--data-dir", join(this.dir, "hub"),
      "--http.listen", `127.0.0.1:${this.http}`, "--mqtt.listen", `127.0.0.1:${this.mqtt}`];
  }
}

// Guarded is the line as it stands in a centre: people sign in, over HTTPS of the
// hub's own authority; another vendor's page, of another site, may frame it.
export class Guarded extends Line {
  async runHub() {
    this.url = `https://127.0.0.1:${this.http}`;
    this.vendor = await freePort();
    this.config = join(this.dir, "hub.yaml");
    await writeFile(this.config, `data_dir: ./hub
http: {listen: 127.0.0.1:${this.http}, tls: on}
mqtt: {listen: 127.0.0.1:${this.mqtt}}
sites: ${join(root, "configs/demo/sites.yaml")}
rules: [${join(root, "configs/demo/rules")}/*.yaml]
clock: {require_sync: false}
page: {frames: ["http://localhost:${this.vendor}"]}
`);
    return ["run", "--config", this.config];
  }

  // command runs the hub's program beside the running one, as its operator does.
  command(...args) { return command("langbiang-hub", [...args, "--config", this.config]); }
}

// Empty is a hub that nobody has told anything.
export class Empty extends System {
  static async start() {
    const s = await Empty.folder();
    const config = join(s.dir, "hub.yaml");
    await writeFile(config, `data_dir: ./hub\nhttp: {listen: 127.0.0.1:${s.http}, auth: off}\nmqtt: {listen: 127.0.0.1:${s.mqtt}}\nclock: {require_sync: false}\n`);
    s.hubArgs = ["run", "--config", config];
    await s.startHub();
    return s;
  }
}

// Crowd is 500 simulated devices with two alerts on each, whose severities move.
export class Crowd extends System {
  static async start() {
    const s = await Crowd.folder();
    const devices = Array.from({ length: 500 }, (_, i) => `  - {id: air-${String(i).padStart(3, "0")}, profile: generic/xy-md02, connection: bus-${i % 3}, unit: ${Math.floor(i / 3) + 1}, interval: 2s}`);
    const ports = [await freePort(), await freePort(), await freePort()];
    await writeFile(join(s.dir, "edge.yaml"), `edge: {id: crowd-01, site: "24846"}
data_dir: ./edge
hub: {url: mqtt://127.0.0.1:${s.mqtt}, send_every: 1s}
clock: {trust: always}
connections:
${ports.map((p, i) => `  - {id: bus-${i}, modbus: {transport: tcp, address: 127.0.0.1:${p}, timeout: 10s}}`).join("\n")}
devices:
${devices.join("\n")}
`);
    await writeFile(join(s.dir, "rules.yaml"), `
- id: warm
  watch: {quantity: air_temperature}
  above: {info: {limit: -40, clear: -41}, warning: {limit: 20, clear: 20}, critical: {limit: 30, clear: 30}}
  collapse: false
  message: {vi: "Nhiệt độ {{.Device}} tại {{.Site.Name}}: {{.Value}} °C", en: "{{.Device}} at {{.Site.Name}}: {{.Value}} °C"}
- id: damp
  watch: {quantity: relative_humidity}
  above: {info: {limit: -1}, warning: {limit: 60, clear: 60}}
  collapse: false
  message: {vi: "Độ ẩm {{.Device}} tại {{.Site.Name}}: {{.Value}} %", en: "Humidity {{.Device}} at {{.Site.Name}}: {{.Value}} %"}
`);
    await writeFile(join(s.dir, "hub.yaml"), `data_dir: ./hub
http: {listen: 127.0.0.1:${s.http}, auth: off}
mqtt: {listen: 127.0.0.1:${s.mqtt}}
sites: ${join(root, "configs/demo/sites.yaml")}
rules: [./rules.yaml]
clock: {require_sync: false}
page: {outlines: ./communes.geojson, frames: ["http://localhost:${s.vendor = await freePort()}"]}
`);
    await writeFile(join(s.dir, "communes.geojson"), JSON.stringify({
      type: "FeatureCollection",
      features: [{ type: "Feature", properties: {}, geometry: { type: "Polygon", coordinates: [[[108.3, 12.0], [108.5, 12.0], [108.5, 12.1], [108.3, 12.1], [108.3, 12.0]]] } }],
    }));
    s.hubArgs = ["run", "--config", join(s.dir, "hub.yaml")];
    await s.startHub();
    const edge = join(s.dir, "edge.yaml");
    const sim = new Program("langbiang-edge", ["simulate", "--config", edge]);
    s.others.push(sim);
    await until("the devices are simulated", () => {
      if (sim.child.exitCode !== null) throw new Error(`the simulation ended:\n${sim.output}`);
      return sim.output.includes("bus-2");
    });
    s.others.push(new Program("langbiang-edge", ["run", "--simulated", "--config", edge, "--hub.url", `mqtt://127.0.0.1:${s.mqtt}`]));
    await until("1,000 alerts are active", async () => (await s.get("alerts/counts")).active >= 1000);
    return s;
  }
}
