import { useEffect, useState } from "react";

/** The time (milliseconds of UNIX time), looked at anew each minute. */
export function useNow(every = 60_000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = window.setInterval(() => {
      setNow(Date.now());
    }, every);
    return () => {
      window.clearInterval(timer);
    };
  }, [every]);
  return now;
}
