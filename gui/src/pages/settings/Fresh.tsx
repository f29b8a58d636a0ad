import { Alert, Button, Group, Text } from "@mantine/core";
import { Fragment, useState, type ReactNode } from "react";

import type { Organization } from "../../api/hub.generated";

/**
 * A form about the organization as it is now. Where somebody changes it while something is typed, what was typed stays until its writer has seen that;
 * a form that nobody has touched shows the new state by itself.
 */
export function Fresh({
  organization,
  children,
}: {
  organization: Organization;
  /** The form about `shown`, which tells whether something is typed into it. */
  children: (shown: Organization, onTyped: (isTyped: boolean) => void) => ReactNode;
}) {
  const [shown, setShown] = useState(organization);
  const [isTyped, setTyped] = useState(false);
  const isOld = shown.version !== organization.version;
  if (isOld && !isTyped) setShown(organization);
  return (
    <>
      {isOld && isTyped && (
        <Alert color="yellow" p="sm" role="status">
          <Group justify="space-between">
            <Text size="sm">
              The organization was changed meanwhile. What you typed is about what it was before.
            </Text>
            <Button
              size="xs"
              variant="default"
              onClick={() => {
                setTyped(false);
              }}
            >
              Show what is in force now
            </Button>
          </Group>
        </Alert>
      )}
      <Fragment key={shown.version}>{children(shown, setTyped)}</Fragment>
    </>
  );
}
