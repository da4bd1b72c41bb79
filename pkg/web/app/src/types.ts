// What the hub's API answers; docs/api.md says what the fields mean.
export type Severity = "info" | "warning" | "critical" | "emergency";
export interface Text { vi?: string; en?: string }

export interface Alert {
  id: string;
  sequence: number;
  rule: string;
  rule_version: string;
  severity: Severity;
  level: { id: string; rank: number; name: Text; color: string } | null; // of a national ladder
  state: "active" | "cleared";
  isa_state: string;
  acknowledged: boolean;
  acknowledgement: { by: string; at: string; severity: Severity } | null;
  shelved_until: string | null;
  suppressed: string;
  out_of_service: boolean;
  assignee: string;
  closed: { by: string; at: string; cause: string; why?: string } | null;
  comments: number;
  chattering: boolean;
  activations: number;
  provisional: boolean;
  start: string;
  end: string | null;
  onset: string;
  updated: string;
  recorded: string;
  site: string;
  edge: string;
  device: string;
  point: string;
  quantity: string;
  labels: Record<string, string> | null;
  procedure: string;
  links: Record<string, string> | null;
  value: number;
  peak: number;
  limit: number;
  unit: string;
  message: Text;
  reason: string;
  test: boolean;
  test_until?: string | null;
}

export interface Act {
  who: string;
  why?: string;
  text?: string;
  until?: string;
  assignee?: string;
  cause?: string;
  automatic?: boolean;
}

export interface Entry {
  generation: string;
  sequence: number;
  recorded: string;
  kind: string;
  time: string;
  act?: Act;
  alert: Alert;
}

export interface Site {
  id: string;
  name: Text;
  province?: string;
  lat: number;
  lon: number;
  edges: string[];
  active_alerts: number;
  severity: Severity | "";
}

export interface Span { from: string | null; to: string | null; reason?: string }

// Configured is how it stands between what an edge is to run and what it runs.
export interface Configured { state: string; owner: string; desired_version: number; running_version: number; detail?: string }

export interface Edge {
  id: string;
  site: string;
  connected: boolean;
  last_seen: string | null;
  version?: string;
  epoch?: string;
  sequence: number;
  watermark: string | null;
  clock_offset_ms: number | null;
  backlog: boolean;
  status: string;
  detail?: string;
  frames: number;
  readings: number;
  late_readings: number;
  gaps: Span[];
  unobserved: Span[];
  log_unsent_bytes: number | null;
  platform?: string;
  clock_trusted: boolean;
  configuration: Configured | null;
  ask?: "on" | "off";
  pushed: boolean;
}

export interface Device {
  id: string;
  site: string;
  edge: string;
  profile?: string;
  revision?: string;
  connection: string;
  address: string;
  up: boolean | null;
  reason?: string;
  since: string | null;
  hardware?: { serial: string; note?: string; since: string | null }[];
}

export interface Series {
  site: string;
  edge: string;
  device: string;
  point: string;
  quantity: string;
  label: Text;
  unit: string;
  decimals: number;
  labels?: Record<string, string>;
  value: number | null;
  text?: string;
  time: string | null;
  quality: string;
}

// Receipt is what became of one message to one person.
export interface Receipt { number: number; consumer: string; reason: string; person: string; channel: string; sent: boolean; detail: string; at: string }

// Delivery is how it stands with a target that alerts are carried to.
export interface Delivery { name: string; kind: string; target: string; state: string; summary: string; lag: number; held: { sequence: number; since: string } | null; notice?: string }

export interface Counts {
  active: number;
  unacknowledged: number;
  chattering: number;
  held: Record<string, number>;
}

export interface Hold {
  id: string;
  kind: string;
  site?: string;
  edge?: string;
  device?: string;
  point?: string;
  rule?: string;
  from: string;
  until: string;
  who: string;
  why?: string;
}

export const severities: Severity[] = ["emergency", "critical", "warning", "info"];
export const rank = (s: Severity | "") => (s === "emergency" ? 4 : s === "critical" ? 3 : s === "warning" ? 2 : s === "info" ? 1 : 0);

export interface Level {
  severity: Severity;
  limit: number;
  clear: number;
  low?: number;
  for: string;
  clear_for: string;
}

export interface Rule {
  id: string;
  version: string;
  kind: string;
  title: Text;
  judged_by: string;
  compares?: string;
  query?: string;
  procedure?: string;
  position: string;
  built_in: boolean;
  state: string;
  series_with_data: number;
  newest_data: string | null;
  evaluations?: { count: number; failures: number; error: string };
  quantity: string;
  unit?: string;
  where?: string;
  judges?: string;
  schedule?: string;
  severities: Level[];
  labels?: Record<string, string>;
  links?: Record<string, string>;
  source?: string;
  matched_series: number;
  active: number;
  last_fired: string | null;
}

// Settings are those of the page in hub.yaml.
export interface Settings {
  version: string;
  tiles: string;
  attribution: string;
  outlines: boolean;
}
