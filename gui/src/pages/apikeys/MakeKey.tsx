import { Checkbox, Select, SegmentedControl, Stack, Text, TextInput } from "@mantine/core";
import { useForm, type GetInputPropsReturnType } from "@mantine/form";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { hub, idempotencyKey, told } from "../../api/hub";
import type { ApiKeyMade, Permission, Role, ServiceAccount } from "../../api/hub.generated";
import { Dialog, DialogForm } from "../../parts/FormDialog";
import { useReadAnew } from "../../parts/members";
import { ALL_PERMISSIONS, givable, holds, MAY, PERMISSIONS, ROLES } from "../../parts/roles";
import { useOrganization } from "../../session/session";
import { EXPIRIES } from "./expiry";
import { NewKey } from "./NewKey";

interface Values {
  name: string;
  whose: "new" | "existing";
  account: string | null;
  role: Role;
  expiry: string;
  limited: boolean;
  scopes: Permission[];
}

/** A dialog that makes a key, and then tells it this once. */
export function MakeKeyDialog({
  opened,
  onClose,
  accounts,
}: {
  opened: boolean;
  onClose: () => void;
  accounts: ServiceAccount[];
}) {
  const [isTold, setTold] = useState(false);
  const close = () => {
    setTold(false);
    onClose();
  };
  return (
    <Dialog title="New API key" opened={opened} onClose={close} size="lg" careful={isTold}>
      <MakeKey
        accounts={accounts}
        onDone={close}
        onTold={() => {
          setTold(true);
        }}
      />
    </Dialog>
  );
}

/** The role of the account that the key would be for; null where none is chosen yet. */
function roleOf(values: Values, accounts: readonly ServiceAccount[]): Role | null {
  if (values.whose === "new") return values.role;
  return accounts.find((one) => one.id === values.account)?.role ?? null;
}

/** What is asked of the Hub for what was filled in. */
function asked(values: Values, role: Role | null): ApiKeyMade {
  const seconds = EXPIRIES.find((one) => one.value === values.expiry)?.seconds ?? null;
  return {
    name: values.name.trim(),
    ...(values.whose === "existing" ? { service_account: values.account } : { role: values.role }),
    scopes: values.limited ? values.scopes.filter((one) => offered(role).includes(one)) : [],
    ...(seconds === null ? {} : { expires_in: seconds }),
  };
}

function MakeKey({
  accounts,
  onDone,
  onTold,
}: {
  accounts: ServiceAccount[];
  onDone: () => void;
  onTold: () => void;
}) {
  const organization = useOrganization();
  const readAnew = useReadAnew();
  const [key] = useState(idempotencyKey);
  const usable = accounts.filter((one) => holds(organization.permissions, one.role));
  const form = useForm<Values>({
    initialValues: {
      name: "",
      whose: "new",
      account: null,
      role: "ci",
      expiry: "quarter",
      limited: false,
      scopes: [],
    },
    validate: {
      name: (name) => (name.trim() === "" ? "A name, such as ci" : null),
      account: (account, values) =>
        values.whose === "existing" && account === null ? "Choose a service account" : null,
      scopes: (scopes, values) =>
        values.limited && scopes.every((one) => !offered(roleOf(values, usable)).includes(one))
          ? "Choose at least one, or do not limit the key"
          : null,
    },
  });
  const make = useMutation({
    mutationFn: (body: ApiKeyMade) =>
      told(
        hub.POST("/api/v1/organizations/{organization}/apikeys", {
          params: { path: { organization: organization.id }, header: { "Idempotency-Key": key } },
          body,
        }),
      ),
    onSuccess: async () => {
      onTold();
      await readAnew("apikeys", "service-accounts", "members");
    },
  });
  if (make.data !== undefined) return <NewKey made={make.data} onDone={onDone} />;

  const { values } = form;
  const role = roleOf(values, usable);
  return (
    <DialogForm
      submit="Make the key"
      change={make}
      onCancel={onDone}
      onSubmit={form.onSubmit((filled) => {
        make.mutate(asked(filled, role));
      })}
    >
      <TextInput
        label="Name"
        description="What it is for, so that you know what you revoke."
        maxLength={200}
        autoComplete="off"
        required
        data-autofocus
        {...form.getInputProps("name")}
      />
      {usable.length > 0 && (
        <SegmentedControl
          aria-label="For which service account"
          data={[
            { value: "new", label: "A new service account" },
            { value: "existing", label: "One that exists" },
          ]}
          {...form.getInputProps("whose")}
        />
      )}
      {values.whose === "new" ? (
        <Select
          label="Role of the service account"
          description={ROLES[values.role].about}
          allowDeselect={false}
          data={givable(organization.permissions, "service").map((one) => ({
            value: one,
            label: ROLES[one].title,
          }))}
          {...form.getInputProps("role")}
        />
      ) : (
        <Select
          label="Service account"
          placeholder="Choose one"
          searchable
          required
          data={usable.map((one) => ({ value: one.id, label: `${one.name} (${ROLES[one.role].title})` }))}
          {...form.getInputProps("account")}
        />
      )}
      <Select
        label="Good for"
        description="A key that ends by itself cannot be forgotten somewhere."
        allowDeselect={false}
        data={EXPIRIES.map(({ value, label }) => ({ value, label }))}
        {...form.getInputProps("expiry")}
      />
      <Stack gap="xs">
        <Checkbox
          label="Limit what it may do"
          description="Otherwise it may do all that the role of its service account may."
          {...form.getInputProps("limited", { type: "checkbox" })}
        />
        {values.limited && <Limits role={role} input={form.getInputProps("scopes")} />}
      </Stack>
    </DialogForm>
  );
}

/** What a key of an account with `role` can be limited to. */
function offered(role: Role | null): readonly Permission[] {
  return role === null ? ALL_PERMISSIONS : PERMISSIONS[role];
}

function Limits({ role, input }: { role: Role | null; input: GetInputPropsReturnType }) {
  return (
    <Checkbox.Group label="No more than this" ml={30} {...input}>
      <Stack gap={8} mt="xs">
        {offered(role).map((one) => (
          <Checkbox
            key={one}
            value={one}
            size="sm"
            label={
              <>
                {MAY[one]}{" "}
                <Text span size="xs" c="dimmed" ff="monospace">
                  {one}
                </Text>
              </>
            }
          />
        ))}
      </Stack>
    </Checkbox.Group>
  );
}
