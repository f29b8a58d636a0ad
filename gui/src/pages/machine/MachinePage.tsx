import { SimpleGrid, Stack } from "@mantine/core";

import type { StatusView } from "../../api/agent.generated";
import { Loading, PageHead } from "../../parts";
import { ReadOnly } from "../../parts/ReadOnly";
import { useAgent } from "../../session/agent";
import { Connection, SetUp } from "./Connection";
import { ConnectTo } from "./ConnectTo";
import { Consumed } from "./Consumed";
import { Ending, LookCloser } from "./Ending";
import { NoAgent } from "./NoAgent";
import { Pairings } from "./Pairings";
import { Served } from "./Served";
import { Unreached } from "./Unreached";
import { Warnings } from "./Warnings";
import { Way } from "./Way";
import { isOfConsole } from "./words";

/** The machine that this page is looked at from, or paired with: its agent, and what it does. */
export function MachinePage() {
  const { channel, mayAct, status, problem, isLoading } = useAgent();
  if (channel === "none" && !isLoading) return <Unreached />;
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
            {!isOfConsole(problem) && mayAct && <ConnectTo status={undefined} />}
            <OfPairing />
          </Stack>
        )
      )}
    </>
  );
}

/** By which pairing this page asks the machine, and the others that the machine has. */
function OfPairing() {
  const { channel } = useAgent();
  if (channel !== "direct" && channel !== "relay") return null;
  return (
    <>
      <Way />
      <Pairings />
    </>
  );
}

function Running({ status }: { status: StatusView }) {
  const { mayAct } = useAgent();
  const isSomewhere = status.teamspace !== null;
  return (
    <Stack gap="lg">
      <ReadOnly />
      {status.warnings.length > 0 && <Warnings warnings={status.warnings} />}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        {isSomewhere ? <Connection status={status} /> : mayAct && <ConnectTo status={status} />}
        <SetUp status={status} />
      </SimpleGrid>
      <OfPairing />
      {isSomewhere && (
        <>
          <Served />
          <Consumed />
          {mayAct && <ConnectTo status={status} />}
        </>
      )}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Ending status={status} />
        <LookCloser />
      </SimpleGrid>
    </Stack>
  );
}
