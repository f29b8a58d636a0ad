import type { Channel, NotDirect } from "./channel";

/** How this page reaches the agent, in a word or two. */
export const WAYS: Record<Channel["way"], string> = {
  looking: "looking for a way",
  console: "local console",
  direct: "directly",
  relay: "through the Hub",
  none: "not reached",
};

/** Why a page does not ask its machine directly, and what can be done about it. */
export const NOT_DIRECT: Record<NotDirect, string> = {
  prompt: "Your browser asks you first whether this page may reach programs of your own machine.",
  denied:
    "Your browser does not let this page reach programs of your own machine. You can change that in its settings for this site, where they are called local network, apps on this device, or loopback.",
  silent:
    "Nobody answers at the machine's own port. That is so in a browser on another machine, and in one that does not let pages of the network reach their own machine.",
};
