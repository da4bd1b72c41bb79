// One alert in a list.
import { possible, start } from "../acting";
import { duration, measured, when } from "../format";
import { t, text } from "../i18n";
import { path } from "../router";
import { tick } from "../store";
import type { Alert } from "../types";
import { Badge, Chip, place, title } from "./basics";

// Marks are what is to be known of an alert beside its severity.
export function Marks({ a, state = true }: { a: Alert; state?: boolean }) {
  return (
    <>
      {a.test && <Chip kind="test">{t("mark").test}</Chip>}
      {a.level && <Chip>{text(a.level.name) || a.level.id}</Chip>}
      {state && <Chip kind={a.isa_state}>{t("isa")[a.isa_state] ?? a.isa_state}
        {a.isa_state === "shelved" && a.shelved_until && <> {t("until")} {when(a.shelved_until)}</>}
        {a.isa_state === "suppressed" && <>: {t("suppressedBy")[a.suppressed] ?? a.suppressed}</>}
      </Chip>}
      {a.chattering && <Chip kind="chatter">{t("mark").chattering}{a.activations > 1 && ` ${a.activations} ${t("times")}`}</Chip>}
      {a.provisional && <Chip>{t("mark").provisional}</Chip>}
      {a.closed && <Chip>{t("mark").closed}: {t("causes")[a.closed.cause] ?? a.closed.cause}</Chip>}
      {a.assignee && <Chip>→ {a.assignee}</Chip>}
      {a.comments > 0 && <Chip>{a.comments} {t("comments")}</Chip>}
    </>
  );
}

// lateBy is how long after its time an alert became known, when that is worth a word.
export function lateBy(a: Alert) {
  const by = Date.parse(a.recorded) - Date.parse(a.updated);
  return a.isa_state !== "normal" && by > 60_000 && by < 400 * 86400_000 && !a.acknowledged && a.comments === 0 ? by : 0;
}

function Since({ a }: { a: Alert }) {
  if (a.end) return <>{when(a.start)} – {when(a.end)} ({duration(Date.parse(a.end) - Date.parse(a.start))})</>;
  return <>{t("since")} {when(a.start)} ({duration(tick.value - Date.parse(a.start))})</>;
}

interface Props { a: Alert; fresh: boolean; here: boolean; selected: boolean; onSelect?: (a: Alert, range: boolean) => void }

export function AlertRow({ a, fresh, here, selected, onSelect }: Props) {
  const name = title(a);
  return (
    <div class={`alert ${a.severity} ${a.state}${fresh ? " fresh" : ""}${here ? " here" : ""}${selected ? " selected" : ""}${a.isa_state === "unacknowledged" ? " calls" : ""}${onSelect ? "" : " plain"}`} data-id={a.id}>
      {onSelect && <input type="checkbox" checked={selected} aria-label={`${t("choose")}: ${name}`} onClick={(e) => onSelect(a, e.shiftKey)} />}
      <Badge of={a.severity} />
      <div class="words">
        <a class="what" href={path("alert", a.id)} title={name}>{name}</a>
        <div class="where">
          <span>{place(a)}</span>
          <span class="num"><Since a={a} /></span>
          {a.unit !== "" && <span class="num">{t("peak")} {measured(a.peak, a.unit)} · {t("limit")} {measured(a.limit, a.unit)}</span>}
        </div>
      </div>
      <div class="marks"><Marks a={a} /></div>
      {possible("acknowledge", a) ? <button type="button" class="ack" onClick={() => start("acknowledge", [a.id])}>{t("acts").acknowledge}</button> : <span class="ack done" aria-hidden="true">✓</span>}
    </div>
  );
}
