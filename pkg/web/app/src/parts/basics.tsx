// Small things that every view uses.
import type { ComponentChildren } from "preact";
import { text, t } from "../i18n";
import { sites } from "../poll";
import { type Alert, type Severity } from "../types";

// Shapes tell the severities apart without their colours.
const shapes: Record<Severity | "", ComponentChildren> = {
  emergency: <path d="M6 1h8l5 5v8l-5 5H6l-5-5V6z" />,
  critical: <path d="M10 .5 19.5 10 10 19.5.5 10z" />,
  warning: <path d="M10 1.5 19.3 18H.7z" />,
  info: <circle cx="10" cy="10" r="9" />,
  "": <path d="M3 10.5 8 15.5 17 4.5" class="tick" />,
};
const signs: Record<Severity | "", string> = { emergency: "!!", critical: "!", warning: "!", info: "i", "": "" };

export function Sign({ of }: { of: Severity | "" }) {
  return (
    <svg class={`sign ${of || "fine"}`} viewBox="0 0 20 20" aria-hidden="true">
      {shapes[of]}
      <text x="10" y={of === "warning" ? 15.6 : 14.4} text-anchor="middle">{signs[of]}</text>
    </svg>
  );
}

export function Badge({ of, children }: { of: Severity | ""; children?: ComponentChildren }) {
  return <span class={`badge ${of || "fine"}`}><Sign of={of} />{children ?? t("severity")[of]}</span>;
}

export function Chip({ kind = "", children, title }: { kind?: string; children: ComponentChildren; title?: string }) {
  return <span class={`chip ${kind}`} title={title}>{children}</span>;
}

export function siteName(id: string) {
  const s = sites.value.value?.find((x) => x.id === id);
  return s ? text(s.name) : id;
}

// place says where an alert comes from.
export const place = (a: Alert) => [siteName(a.site), a.device || a.edge, a.point && a.point !== a.quantity ? a.point : ""].filter(Boolean).join(" · ");
export const title = (a: Alert) => text(a.message) || a.rule;

export function Loading({ error, retry }: { error?: Error | null; retry?: () => void }) {
  if (error) {
    return (
      <div class="note bad" role="alert">
        <p><strong>{t("notLoaded")}</strong> {error.message}</p>
        {retry && <button type="button" onClick={retry}>{t("retry")}</button>}
      </div>
    );
  }
  return <div class="loading" role="status"><i aria-hidden="true" /><span>{t("loading")}</span></div>;
}

export function Empty({ title: head, children }: { title?: string; children: ComponentChildren }) {
  return <div class="empty">{head && <strong>{head}</strong>}<p>{children}</p></div>;
}

// Tabs is a row of buttons of which one is pressed.
export function Tabs<K extends string>({ label, value, options, onChange }: { label: string; value: K; options: [K, ComponentChildren][]; onChange: (k: K) => void }) {
  return (
    <div class="tabs" role="group" aria-label={label}>
      {options.map(([k, name]) => <button key={k} type="button" aria-pressed={k === value} onClick={() => onChange(k)}>{name}</button>)}
    </div>
  );
}

export function Field({ label, children }: { label: string; children: ComponentChildren }) {
  return <label class="field"><span>{label}</span>{children}</label>;
}
