import { SimpleGrid, Stack } from "@mantine/core";

import type { StatusView } from "../../api/agent.generated";
import { Loading, PageHead } from "../../parts";
import { useAgent } from "../../session/agent";
import { Connection, SetUp } from "./Connection";
import { ConnectTo } from "./ConnectTo";
import { Consumed } from "./Consumed";
import { Ending, LookCloser } from "./Ending";
import { NoAgent } from "./NoAgent";
import { Served } from "./Served";
import { Warnings } from "./Warnings";
import { WithoutConsole } from "./WithoutConsole";
import { isOfConsole } from "./words";

/** The machine that this page is looked at from: its agent, and what it does. */
export function MachinePage() {
  const { channel, status, problem, isLoading } = useAgent();
  if (channel === "none") return <WithoutConsole />;
  return (
    <>
      <PageHead
        title="My machine"
        about="The agent of this machine: where it is connected to, and what it does."
      />
      {isLoading ? (
        <Loading />
      ) : status !== undefined ? (
        <Running status={status} />
      ) : (
        problem !== undefined && (
          <Stack gap="lg" maw={760}>
            <NoAgent problem={problem} />
            {!isOfConsole(problem) && <ConnectTo status={undefined} />}
          </Stack>
        )
      )}
    </>
  );
}

function Running({ status }: { status: StatusView }) {
  const isSomewhere = status.teamspace !== null;
  return (
    <Stack gap="lg">
      {status.warnings.length > 0 && <Warnings warnings={status.warnings} />}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        {isSomewhere ? <Connection status={status} /> : <ConnectTo status={status} />}
        <SetUp status={status} />
      </SimpleGrid>
      {isSomewhere && (
        <>
          <Served />
          <Consumed />
          <ConnectTo status={status} />
        </>
      )}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Ending status={status} />
        <LookCloser />
      </SimpleGrid>
    </Stack>
  );
}
