import { IconAlertTriangle } from "@tabler/icons-react";

import { colourOf } from "../../parts";
import classes from "./Catalog.module.css";

function initialsOf(name: string): string {
  const words = name.split(" ").filter(Boolean);
  const letters = words.length > 1 ? words.map((word) => [...word][0] ?? "") : [...name];
  return letters.slice(0, 2).join("").toUpperCase();
}

/** A person in a table, as `Person` without its name, of two plain elements: there may be hundreds while somebody scrolls. */
export function Face({ name, id, away }: { name: string; id: string; away: boolean }) {
  const shown = name === "" ? "Somebody" : name;
  const said = away ? `${shown}, away` : shown;
  const [colour = "gray", shade = "8"] = colourOf(id).split(".");
  return (
    <span
      className={classes.face}
      data-away={away || undefined}
      role="img"
      aria-label={said}
      title={said}
      style={{ background: `var(--mantine-color-${colour}-${shade})` }}
    >
      {initialsOf(shown)}
      {away && <IconAlertTriangle size={12} className={classes.away} aria-hidden />}
    </span>
  );
}
