import { Group, SegmentedControl, Stack, Text } from "@mantine/core";
import { useState } from "react";

import type { MayAsked } from "../../api/hub.generated";
import { useAddress } from "../../parts/address";
import { useMay } from "../../session/session";
import { Matrix } from "./Matrix";
import { PersonSelect } from "./PersonSelect";
import { Question } from "./Question";
import { useWho } from "./who";

/** Who can reach what: one question, or many services at once. The Hub answers as the Teamspace would. */
export function SimulatorTab({ version }: { version: number | undefined }) {
  const [address, change] = useAddress();
  const [asked, setAsked] = useState<MayAsked | null>(null);
  const who = useWho(address.who);
  const may = useMay();
  const view = address.view === "services" ? "services" : "question";
  const mayAskOfOthers = may("policies.read") && may("members.read");
  return (
    <Stack gap="lg">
      <Group align="flex-end" gap="md" justify="space-between">
        {mayAskOfOthers ? (
          <PersonSelect
            value={who.id}
            onChange={(id) => {
              setAsked(null);
              change({ who: id });
            }}
          />
        ) : (
          <Text size="sm">You ask for yourself. Whoever may read policies can ask for others, too.</Text>
        )}
        <SegmentedControl
          aria-label="What to ask"
          value={view}
          onChange={(value) => {
            change({ view: value === "services" ? value : "" }, true);
          }}
          data={[
            { value: "question", label: "One question" },
            { value: "services", label: "Many services" },
          ]}
        />
      </Group>
      {view === "question" ? (
        <Question key={who.id} who={who} asked={asked} onAsk={setAsked} />
      ) : (
        <Matrix
          key={who.id}
          who={who}
          version={version}
          onOpen={(question) => {
            setAsked(question);
            change({ view: "", operation: question.operation, service: question.service }, true);
          }}
        />
      )}
    </Stack>
  );
}
