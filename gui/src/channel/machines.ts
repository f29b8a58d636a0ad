import { hub, told } from "../api/hub";
import type { Machine } from "../api/hub.generated";

/** The machines of whoever is signed in that pages reach through the Hub now. */
export function connectedMachines(signal?: AbortSignal): Promise<Machine[]> {
  return told(hub.GET("/api/v1/machines", { ...(signal === undefined ? {} : { signal }) }));
}
