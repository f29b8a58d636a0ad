import type { OrganizationSettings } from "../../api/hub.generated";

export const DEFAULT_AUDIT_DAYS = 365;
export const MOST_AUDIT_DAYS = 3650;

/** The settings as a form shows them; what an organization has not said is as by default. */
export interface Values {
  deviceFlow: boolean;
  auditDays: number;
  /** Empty for none. */
  opa: string;
}

/** What an organization's settings mean. */
export function settingsOf(settings: Record<string, unknown>): Values {
  const { device_flow: deviceFlow, audit_days: auditDays, opa } = settings;
  return {
    deviceFlow: deviceFlow !== false,
    auditDays: typeof auditDays === "number" ? auditDays : DEFAULT_AUDIT_DAYS,
    opa: typeof opa === "string" ? opa : "",
  };
}

/** What is asked of the Hub to get from `before` to `after`: only what differs, and null for what is as by default. */
export function changed(before: Values, after: Values): OrganizationSettings {
  return {
    ...(after.deviceFlow === before.deviceFlow ? {} : { device_flow: after.deviceFlow ? null : false }),
    ...(after.auditDays === before.auditDays
      ? {}
      : { audit_days: after.auditDays === DEFAULT_AUDIT_DAYS ? null : after.auditDays }),
    ...(after.opa === before.opa ? {} : { opa: after.opa === "" ? null : after.opa }),
  };
}

/** Why a text is no address of an Open Policy Agent; null for one that is, and for none. */
export function opaMistake(text: string): string | null {
  if (text === "" || /^https?:\/\/[^\s/?#]+(\/\S*)?$/.test(text)) return null;
  return "An address, such as https://opa.example.org/v1/data/codezero/allow, or nothing";
}
