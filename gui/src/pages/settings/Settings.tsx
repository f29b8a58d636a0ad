import { Alert, Button, Group, NumberInput, Stack, Switch, TextInput } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useEffect } from "react";

import type { Organization } from "../../api/hub.generated";
import { ProblemAlert, said } from "../../parts";
import { useOrganizationChange } from "./change";
import { changed, DEFAULT_AUDIT_DAYS, MOST_AUDIT_DAYS, opaMistake, settingsOf } from "./values";

/** A form for what the organization wants to be different. */
export function Settings({
  organization,
  onTyped,
}: {
  organization: Organization;
  onTyped: (isTyped: boolean) => void;
}) {
  const present = settingsOf(organization.settings);
  const form = useForm<{ deviceFlow: boolean; auditDays: number | string; opa: string }>({
    initialValues: present,
    validate: {
      auditDays: (days) =>
        typeof days === "number" && Number.isInteger(days) && days >= 1 && days <= MOST_AUDIT_DAYS
          ? null
          : `A number of days, from 1 to ${String(MOST_AUDIT_DAYS)}`,
      opa: (text) => opaMistake(text.trim()),
    },
  });
  const change = useOrganizationChange(organization, () => {
    said("The settings are in force");
    onTyped(false);
  });
  const wanted = {
    ...form.values,
    auditDays: Number(form.values.auditDays),
    opa: form.values.opa.trim(),
  };
  const difference = changed(present, wanted);
  const isTyped = Object.keys(difference).length > 0;
  useEffect(() => {
    onTyped(isTyped);
  }, [isTyped, onTyped]);
  return (
    <form
      noValidate
      onSubmit={form.onSubmit(() => {
        change.mutate({ settings: difference });
      })}
    >
      <Stack gap="lg">
        <Switch
          label="Sign in by a code on another device"
          description="czctl auth login without a browser shows a code, which its user types into a browser elsewhere. Without it, czctl opens a browser on the same machine."
          {...form.getInputProps("deviceFlow", { type: "checkbox" })}
        />
        <NumberInput
          label="Days that the audit is kept"
          description={`Entries that are older go for good, within a day. ${String(DEFAULT_AUDIT_DAYS)} if nothing else is said.`}
          min={1}
          max={MOST_AUDIT_DAYS}
          allowDecimal={false}
          styles={{ wrapper: { maxWidth: 240 } }}
          {...form.getInputProps("auditDays")}
        />
        {wanted.auditDays >= 1 && wanted.auditDays < present.auditDays && (
          <Alert color="yellow" p="sm">
            Entries older than {wanted.auditDays} days are let go, and cannot be brought back. Export the
            audit before, where you need them.
          </Alert>
        )}
        <TextInput
          label="Open Policy Agent"
          description="Its public address with TLS. It is asked besides the policy of each Teamspace, and has to agree. Empty for none."
          placeholder="https://opa.example.org/v1/data/codezero/allow"
          type="url"
          maxLength={500}
          {...form.getInputProps("opa")}
        />
        {change.error !== null && <ProblemAlert error={change.error} />}
        <Group>
          <Button type="submit" loading={change.isPending} disabled={!isTyped}>
            Save
          </Button>
          {form.isDirty() && (
            <Button
              variant="default"
              onClick={() => {
                form.reset();
              }}
            >
              Back to what is in force
            </Button>
          )}
        </Group>
      </Stack>
    </form>
  );
}
