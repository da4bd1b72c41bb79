// Questions to the agent of an edge: what its own commands say there, as it arrives.
import { useEffect, useRef, useState } from "preact/hooks";
import { stream } from "../api";
import { bytes } from "../format";
import { t } from "../i18n";
import { mayAsk } from "../session";
import type { Edge } from "../types";

type Kind = "doctor" | "status" | "log" | "follow" | "why";
interface Line { text?: string; error?: string; answered?: { failed?: string; truncated?: boolean; metered?: boolean; messages: number; bytes: number } }

const mostShown = 256 << 10;

export function Asked({ edge, kinds, device }: { edge: Edge; kinds: Kind[]; device?: string }) {
  const [asked, setAsked] = useState<Kind | null>(null);
  const [text, setText] = useState("");
  const [end, setEnd] = useState<{ text: string; bad: boolean } | null>(null);
  const running = useRef<AbortController | null>(null);
  const out = useRef<HTMLPreElement>(null);
  useEffect(() => () => running.current?.abort(), []);
  useEffect(() => { if (asked === "follow" && out.current) out.current.scrollTop = out.current.scrollHeight; }, [text]);
  if (!mayAsk.value || edge.pushed) return null;
  const able = edge.ask === "on" && edge.connected;
  const ask = async (kind: Kind) => {
    running.current?.abort();
    const mine = running.current = new AbortController();
    setAsked(kind); setText(""); setEnd(null);
    const args: Record<string, string> = kind === "why" ? { device: device! } : kind === "follow" ? { lines: "20", follow: "true" } : {};
    const last = (text: string, bad: boolean) => { if (running.current === mine) { setEnd({ text, bad }); running.current = null; } };
    try {
      await stream<Line>(`edges/${encodeURIComponent(edge.id)}/ask`, { kind: kind === "follow" ? "log" : kind, args, for: kind === "follow" ? "10m" : "1m" }, (l) => {
        if (running.current !== mine) return;
        if (l.text) setText((was) => (was + l.text).slice(-mostShown));
        const a = l.answered;
        if (a) last([l.error, a.failed, a.truncated && t("asks").cut, `${a.messages} ${t("asks").messages}, ${bytes(a.bytes)}${a.metered ? ` (${t("asks").metered})` : ""}`].filter(Boolean).join(" · "), Boolean(l.error));
      }, mine.signal);
      last(t("asks").broken, true);
    } catch (err) {
      if (mine.signal.aborted) last(t("asks").stopped, false);
      else last((err as Error).message, true);
    }
  };
  return (
    <section class="panel noprint" aria-label={t("asks").title}>
      <h2>{t("asks").title}</h2>
      {edge.ask === "off" ? <p class="soft">{t("asks").off}</p> : edge.ask !== "on" ? <p class="soft">{t("asks").old}</p> : <>
        <div class="buttons start">
          {kinds.map((k) => <button key={k} type="button" disabled={!able} aria-pressed={asked === k} onClick={() => void ask(k)}>{t("asks").kinds[k]}</button>)}
          {asked && !end && <button type="button" onClick={() => running.current?.abort()}>{t("asks").stop}</button>}
        </div>
        {asked && (text || !end) && <pre class="told" ref={out} tabIndex={0} aria-label={t("asks").kinds[asked]}>{text || t("asks").waits}</pre>}
        {end && <p class={end.bad ? "note bad" : "soft"} role="status">{end.text}</p>}
      </>}
    </section>
  );
}
