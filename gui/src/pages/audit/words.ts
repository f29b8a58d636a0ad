/** What the audit tells of, in words: by the first word of actions, what they are about, and each action. */
export const ACTIONS: readonly { word: string; title: string; actions: Readonly<Record<string, string>> }[] =
  [
    {
      word: "signin",
      title: "Signing in",
      actions: {
        "signin.password": "Signed in by password",
        "signin.device-code": "Signed in by a typed code",
        "signin.provider": "Signed in by a provider",
        "signin.invitation": "Signed in by an invitation",
        "signin.first-owner": "First owner came",
        "signin.link": "Identity added",
        "signin.refresh": "Sign-in refreshed",
        "signin.reused": "Old token used again",
        "signin.end": "Signed out",
        "signin.end-all": "Signed out everywhere",
      },
    },
    {
      word: "password",
      title: "Passwords",
      actions: {
        "password.change": "Password changed",
        "password.link": "Link for a password made",
        "password.reset": "Password reset",
      },
    },
    {
      word: "member",
      title: "Members",
      actions: {
        "member.join": "Joined",
        "member.role": "Role changed",
        "member.remove": "Member removed",
        "member.leave": "Left",
      },
    },
    {
      word: "invitation",
      title: "Invitations",
      actions: {
        "invitation.create": "Invited",
        "invitation.accept": "Invitation accepted",
        "invitation.withdraw": "Invitation revoked",
      },
    },
    {
      word: "service-account",
      title: "Service accounts",
      actions: { "service-account.create": "Service account made" },
    },
    {
      word: "apikey",
      title: "API keys",
      actions: {
        "apikey.create": "API key made",
        "apikey.use": "API key used",
        "apikey.revoke": "API key revoked",
      },
    },
    {
      word: "device",
      title: "Devices",
      actions: { "device.register": "Device added", "device.revoke": "Device revoked" },
    },
    {
      word: "organization",
      title: "Organization",
      actions: {
        "organization.create": "Organization made",
        "organization.rename": "Organization renamed",
        "organization.configure": "Settings changed",
        "organization.delete": "Organization deleted",
      },
    },
    {
      word: "space",
      title: "Teamspaces",
      actions: {
        "space.create": "Teamspace made",
        "space.invite": "Join token made",
        "space.join": "Cluster joined",
        "space.rejoin": "Cluster joined again",
        "space.renew": "Certificate renewed",
        "space.rekey": "Key changed",
        "space.leave": "Cluster left",
        "space.rename": "Teamspace renamed",
        "space.suspend": "Teamspace suspended",
        "space.resume": "Teamspace resumed",
        "space.rotate": "New key asked for",
        "space.remove": "Teamspace removed",
        "space.access": "Access given",
        "space.token": "Token for the CONNECT door given",
        "space.entry": "Entry changed",
      },
    },
    { word: "policy", title: "Policies", actions: { "policy.save": "Policy changed" } },
    {
      word: "session",
      title: "Sessions",
      actions: {
        "session.begin": "Laptop connected",
        "session.end": "Laptop left",
        "session.terminate": "Session terminated",
      },
    },
    {
      word: "consume",
      title: "Consuming",
      actions: { "consume.begin": "Consumes", "consume.end": "Consumes no more" },
    },
    {
      word: "serve",
      title: "Serving",
      actions: {
        "serve.begin": "Serves",
        "serve.end": "Serves no more",
        "serve.expire": "Variant expired",
        "serve.takeover": "Variant taken over",
        "serve.terminate": "Variant terminated",
        "serve.contest": "Variants contend",
        "serve.requests": "Requests to a variant",
      },
    },
    { word: "stream", title: "Connections", actions: { "stream.refuse": "Connection refused" } },
    { word: "events", title: "Lost events", actions: { "events.lost": "Events lost" } },
    {
      word: "audit",
      title: "Audit",
      actions: { "audit.export": "Audit exported", "audit.retain": "Old entries let go" },
    },
  ];

const WORDS: ReadonlyMap<string, string> = new Map(ACTIONS.flatMap(({ actions }) => Object.entries(actions)));

/** An action in words; itself where we have none for it. */
export function wordsOf(action: string): string {
  return WORDS.get(action) ?? action;
}

/** What an entry calls somebody or something: its name, else whatever tells it apart. */
export function nameOf(thing: Readonly<Record<string, unknown>>): string {
  for (const name of ["name", "email", "id", "kind"]) {
    const text = thing[name];
    if (typeof text === "string" && text !== "") return text;
  }
  return "–";
}

const KINDS: Readonly<Record<string, string>> = {
  apikey: "API key",
  audit: "audit",
  device: "device",
  hub: "Hub",
  invitation: "invitation",
  organization: "organization",
  person: "person",
  service: "service",
  session: "sign-in",
  space: "Teamspace",
};

/** What kind of thing it is, in words. */
export function kindOf(thing: Readonly<Record<string, unknown>>): string {
  const kind = thing.kind;
  // A member that is no person, and a service of a Teamspace, whose id is its name.
  if (kind === "service" && /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(String(thing.id))) return "service account";
  return typeof kind === "string" ? (KINDS[kind] ?? kind) : "";
}

/** The id of a thing; undefined where it has none. */
export function idOf(thing: Readonly<Record<string, unknown>>): string | undefined {
  return typeof thing.id === "string" && thing.id !== "" ? thing.id : undefined;
}
