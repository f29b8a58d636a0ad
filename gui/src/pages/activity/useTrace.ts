import { useCallback, useEffect, useRef, useState } from "react";

import { agent } from "../../api/agent";
import type { TraceLine } from "../../api/agent.generated";
import { Problem } from "../../api/problem";
import { NOTHING_TRACED, withLines, type TraceState } from "./tracing";

// Lines come one by one, hundreds in a second; what is on screen changes no oftener than people read.
const TOGETHER_MS = 200;

const ENDED = new Problem({
  status: 0,
  code: "CZ-GUI-001",
  title: "Tracing has stopped",
  detail: "The agent has ended the stream, as it does when it stops.",
  fix: "Start again when it runs. What came so far is still here.",
});

export interface Trace extends TraceState {
  start: () => void;
  stop: () => void;
  clear: () => void;
}

/** Requests and connections of this machine as they end, from `start` to `stop` or until this page is left. */
export function useTrace(): Trace {
  const [state, setState] = useState(NOTHING_TRACED);
  const running = useRef<AbortController | null>(null);
  const stop = useCallback(() => {
    running.current?.abort();
    running.current = null;
    setState((before) => ({ ...before, isOn: false }));
  }, []);
  const start = useCallback(() => {
    running.current?.abort();
    const controller = new AbortController();
    running.current = controller;
    setState((before) => ({ ...before, isOn: true, error: null }));
    void follow(controller.signal, (lines) => {
      setState((before) => withLines(before, lines));
    }).then((error) => {
      if (!controller.signal.aborted) setState((before) => ({ ...before, isOn: false, error }));
    });
  }, []);
  const clear = useCallback(() => {
    setState((before) => ({ ...NOTHING_TRACED, isOn: before.isOn }));
  }, []);
  useEffect(
    () => () => {
      running.current?.abort();
    },
    [],
  );
  return { ...state, start, stop, clear };
}

/** Hand over the lines of the stream until `signal`; why it ended otherwise. */
async function follow(signal: AbortSignal, take: (lines: TraceLine[]) => void): Promise<unknown> {
  let waiting: TraceLine[] = [];
  let timer: number | undefined;
  const flush = () => {
    timer = undefined;
    const lines = waiting;
    waiting = [];
    if (lines.length > 0 && !signal.aborted) take(lines);
  };
  try {
    for await (const line of agent.traces(signal, () => undefined)) {
      waiting.push(line);
      timer ??= window.setTimeout(flush, TOGETHER_MS);
    }
    return ENDED;
  } catch (error) {
    return error instanceof Problem ? error : ENDED;
  } finally {
    window.clearTimeout(timer);
    flush();
  }
}
