import { Box, Button, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";
import type { Organization } from "../../api/hub.generated";
import { where } from "../../api/where";
import { PageHead, Shown, When } from "../../parts";
import { CreateOrganizationDialog } from "../../parts/CreateOrganization";
import { Copied, Facts } from "../../parts/Facts";
import { Section } from "../../parts/Section";
import { useMay, useOrganization, useSession } from "../../session/session";
import { DeleteOrganization } from "./DeleteOrganization";
import { Fresh } from "./Fresh";
import { Name } from "./Name";
import { Settings } from "./Settings";
import { settingsOf } from "./values";

/** What an organization is, what it wants to be different, and its end. */
export function SettingsPage() {
  const id = useOrganization().id;
  const query = useQuery({
    queryKey: ["hub", id, "organization", "one"],
    queryFn: () =>
      told(hub.GET("/api/v1/organizations/{organization}", { params: { path: { organization: id } } })),
  });
  return (
    <>
      <PageHead title="Settings" />
      <Box maw={960}>
        <Shown query={query}>{(organization) => <Sections organization={organization} />}</Shown>
      </Box>
    </>
  );
}

function Sections({ organization }: { organization: Organization }) {
  const may = useMay();
  const { me } = useSession();
  const [creating, { open, close }] = useDisclosure(false);
  const manages = may("organization.manage");
  return (
    <Stack gap="lg">
      <Section title="Organization">
        {manages && (
          <Fresh organization={organization}>
            {(shown, onTyped) => <Name organization={shown} onTyped={onTyped} />}
          </Fresh>
        )}
        <Facts
          facts={[
            ...(manages ? [] : [["Name", <bdi key="name">{organization.name}</bdi>] as const]),
            ["Id", <Copied key="id" text={organization.id} label="Copy the id" />],
            ["Since", <When key="since" at={organization.created_at} />],
          ]}
        />
      </Section>
      <Section
        title="How it works"
        about={manages ? undefined : "Only an owner of the organization changes this."}
      >
        {manages ? (
          <Fresh organization={organization}>
            {(shown, onTyped) => <Settings organization={shown} onTyped={onTyped} />}
          </Fresh>
        ) : (
          <ReadSettings organization={organization} />
        )}
      </Section>
      {me?.user.kind === "person" && (
        <Section
          title="Another organization"
          about="Organizations know nothing of each other: each has its own members, Teamspaces, policies and audit."
          action={
            <Button variant="default" size="xs" onClick={open} style={{ flexShrink: 0 }}>
              New organization
            </Button>
          }
        >
          <CreateOrganizationDialog opened={creating} onClose={close} />
        </Section>
      )}
      <TheHub />
      {may("organization.delete") && <DeleteOrganization organization={organization} />}
    </Stack>
  );
}

function ReadSettings({ organization }: { organization: Organization }) {
  const settings = settingsOf(organization.settings);
  return (
    <Facts
      facts={[
        ["Sign-in by a code on another device", settings.deviceFlow ? "allowed" : "not allowed"],
        ["Audit is kept for", `${String(settings.auditDays)} days`],
        ["Open Policy Agent", settings.opa === "" ? "none" : settings.opa],
      ]}
    />
  );
}

function TheHub() {
  const query = useQuery({
    queryKey: ["hub", "self", "version"],
    staleTime: Infinity,
    queryFn: () => told(hub.GET("/api/v1/version")),
  });
  return (
    <Section title="The Hub">
      <Shown query={query} rows={2}>
        {(version) => (
          <Facts
            facts={[
              ["Address", <Copied key="address" text={version.url} label="Copy the address" />],
              ["Release", version.release],
              ["Release of this page", version.release !== where().release && where().release],
            ]}
          />
        )}
      </Shown>
    </Section>
  );
}
