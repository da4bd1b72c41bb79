// Dialogs and messages. The browser's own dialog keeps the focus within itself.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { asking, dismiss, perform, setWho, signedIn, toasts, undo, who } from "../acting";
import { t } from "../i18n";
import { known } from "../store";
import { Field, title } from "./basics";

export function Dialog({ title: head, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => { ref.current!.showModal(); }, []);
  return (
    <dialog ref={ref} aria-label={head} onClose={onClose} onClick={(e) => { if (e.target === ref.current) ref.current?.close(); }}>
      <div class="sheet">
        <h2>{head}</h2>
        {children}
      </div>
    </dialog>
  );
}

const spans = ["30m", "1h", "4h", "8h", "1d", "7d", "30d"];
const causes = ["resolved", "false_alarm", "sensor_fault", "planned", "duplicate", "other"];

// ActDialog asks for what an act needs.
export function ActDialog() {
  const ask = asking.value;
  return ask && <ActForm key={ask.act + ask.ids.join()} />;
}

function ActForm() {
  const { act, ids } = asking.value!;
  const [name, setName] = useState(who.value);
  const [words, setWords] = useState("");
  const [assignee, setAssignee] = useState(known(ids[0]!)?.assignee ?? "");
  const [span, setSpan] = useState("1h");
  const [cause, setCause] = useState("resolved");
  const [busy, setBusy] = useState(false);
  const close = () => { asking.value = null; };
  const submit = async (e: Event) => {
    e.preventDefault();
    if (!signedIn.value) setWho(name);
    setBusy(true);
    const fields: Record<string, unknown> = {};
    if (act === "comment") fields.text = words;
    else if (words) fields.why = words;
    if (act === "shelve") fields.for = span;
    if (act === "assign" && assignee) fields.assignee = assignee;
    if (act === "close") fields.cause = cause;
    const ok = await perform(act, ids, fields);
    setBusy(false);
    if (ok) close();
  };
  const first = known(ids[0]!);
  return (
    <Dialog title={t("acts")[act]!} onClose={close}>
      <p class="about">{ids.length === 1 && first ? title(first) : `${ids.length} ${t("ofAlerts")}`}</p>
      <form onSubmit={submit}>
        {!signedIn.value && <Field label={t("whoAsk")}><input required maxLength={60} value={name} onInput={(e) => setName(e.currentTarget.value)} autocomplete="name" /></Field>}
        {act === "shelve" && <>
          <Field label={t("forHow")}><select value={span} onChange={(e) => setSpan(e.currentTarget.value)}>{spans.map((s) => <option key={s} value={s}>{t("spans")[s]}</option>)}</select></Field>
          <p class="hint">{t("shelveNote")}</p>
        </>}
        {act === "assign" && <Field label={t("assignee")}><input maxLength={60} value={assignee} placeholder={t("assigneeNone")} onInput={(e) => setAssignee(e.currentTarget.value)} autofocus /></Field>}
        {act === "close" && <Field label={t("cause")}><select value={cause} onChange={(e) => setCause(e.currentTarget.value)}>{causes.map((c) => <option key={c} value={c}>{t("causes")[c]}</option>)}</select></Field>}
        <Field label={act === "comment" ? t("text") : act === "close" && cause === "other" ? t("whyMust") : t("why")}>
          <textarea rows={3} maxLength={500} required={act === "comment" || (act === "close" && cause === "other")} value={words} onInput={(e) => setWords(e.currentTarget.value)} autofocus={act === "comment"} />
        </Field>
        <div class="buttons">
          <button type="button" onClick={close}>{t("cancel")}</button>
          <button type="submit" class="main" disabled={busy}>{t("acts")[act]}</button>
        </div>
      </form>
    </Dialog>
  );
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((x) => (
        <div key={x.id} class={`toast${x.bad ? " bad" : ""}`}>
          <span>{x.text}</span>
          {x.undo && <button type="button" onClick={() => void undo(x)}>{t("undo")}</button>}
          <button type="button" class="x" aria-label={t("close")} onClick={() => dismiss(x.id)}>×</button>
        </div>
      ))}
    </div>
  );
}
