import { useEffect, useState } from "preact/hooks";
import { type Course, idOf, type Key, read } from "../readings";

// useCourses reads series for a time; what was there before stays until the new has come.
export function useCourses(keys: Key[], span: [number, number], columns: number) {
  const [courses, setCourses] = useState<Course[] | null>(null);
  const [of, setOf] = useState<Map<string, Course>>(new Map()); // what has come last, by series
  const [error, setError] = useState<Error | null>(null);
  const [done, setDone] = useState(0); // of the series asked for
  const [round, again] = useState(0);
  const wide = Math.ceil(columns / 300) * 300; // a few pixels more are no new question
  const names = keys.map(idOf).join("\n");
  useEffect(() => {
    const stop = new AbortController();
    setDone(0);
    setError(null);
    let n = 0;
    Promise.all(keys.map((k) => read(k, span[0], span[1], wide, stop.signal).then((c) => { if (!stop.signal.aborted) setDone(++n); return c; })))
      .then((list) => { if (!stop.signal.aborted) { setCourses(list); setOf(new Map(keys.map((k, i) => [idOf(k), list[i]!]))); } }, (err: Error) => { if (!stop.signal.aborted) setError(err); });
    return () => stop.abort();
  }, [names, span[0], span[1], wide, round]);
  const fit = courses && courses.length === keys.length ? courses : null;
  return { courses: fit, of, error, busy: done < keys.length && !error, done, again: () => again((n) => n + 1) };
}
