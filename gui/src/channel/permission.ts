/** Whether the browser lets this page reach servers of its own machine; `unknown` where it has no such question. */
export type Permission = "granted" | "prompt" | "denied" | "unknown";

// As newer browsers call it, and as they did first.
const NAMES = ["loopback-network", "local-network-access"];
const OWN_HOSTS = /^(?:127\.\d+\.\d+\.\d+|localhost|\[::1\])$/;

async function asked(): Promise<PermissionStatus | undefined> {
  for (const name of NAMES) {
    try {
      return await navigator.permissions.query({ name: name as PermissionName });
    } catch {
      // The browser does not know it by that name.
    }
  }
  return undefined;
}

/** Look, without asking anybody. */
export async function loopbackPermission(): Promise<Permission> {
  // A page that comes from this machine itself is asked about nothing.
  if (OWN_HOSTS.test(location.hostname)) return "granted";
  return (await asked())?.state ?? "unknown";
}

/** Be told when somebody answers the browser's question otherwise. */
export async function onPermissionChange(changed: () => void): Promise<void> {
  (await asked())?.addEventListener("change", changed);
}
