import { Button, Tabs } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconKey, IconRobot } from "@tabler/icons-react";

import { PageHead } from "../../parts";
import { useAddress } from "../../parts/address";
import { Dialog } from "../../parts/FormDialog";
import { useMay } from "../../session/session";
import { ApiKeys } from "./ApiKeys";
import { MakeAccount } from "./MakeAccount";
import { MakeKeyDialog } from "./MakeKey";
import { useApiKeys, useServiceAccounts } from "./queries";
import { ServiceAccounts } from "./ServiceAccounts";

/** The keys by which programs come, and the accounts they stand for. */
export function ApiKeysPage() {
  const may = useMay();
  const [search, change] = useAddress();
  const keys = useApiKeys();
  const accounts = useServiceAccounts();
  const [makingKey, makeKey] = useDisclosure(false);
  const [makingAccount, makeAccount] = useDisclosure(false);
  const count = (of: unknown[] | undefined) => (of === undefined ? "" : ` (${String(of.length)})`);
  const tab = search.tab ?? "keys";
  return (
    <>
      <PageHead
        title="API keys"
        about="For programs: CI jobs, scripts, the Node agent. Each key belongs to a service account, which is a member with a role of its own."
      >
        {may("apikeys.manage") && (
          <>
            {tab === "accounts" && (
              <Button
                variant="default"
                leftSection={<IconRobot size={16} aria-hidden />}
                onClick={makeAccount.open}
              >
                New service account
              </Button>
            )}
            <Button leftSection={<IconKey size={16} aria-hidden />} onClick={makeKey.open}>
              New API key
            </Button>
          </>
        )}
      </PageHead>
      <Tabs
        value={tab}
        onChange={(chosen) => {
          change({ tab: chosen === "keys" ? "" : (chosen ?? "") });
        }}
      >
        <Tabs.List mb="md">
          <Tabs.Tab value="keys">Keys{count(keys.data)}</Tabs.Tab>
          <Tabs.Tab value="accounts">Service accounts{count(accounts.data)}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="keys">
          <ApiKeys
            query={keys}
            accounts={accounts.data ?? []}
            onMake={may("apikeys.manage") ? makeKey.open : undefined}
          />
        </Tabs.Panel>
        <Tabs.Panel value="accounts">
          <ServiceAccounts
            query={accounts}
            keys={keys.data ?? []}
            onMake={may("apikeys.manage") ? makeAccount.open : undefined}
          />
        </Tabs.Panel>
      </Tabs>
      <MakeKeyDialog opened={makingKey} onClose={makeKey.close} accounts={accounts.data ?? []} />
      <Dialog title="New service account" opened={makingAccount} onClose={makeAccount.close} size="lg">
        <MakeAccount onDone={makeAccount.close} />
      </Dialog>
    </>
  );
}
