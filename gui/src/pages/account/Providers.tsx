import { Button, Group, Stack, Text } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";
import { ProblemAlert, Shown } from "../../parts";
import { Section } from "../../parts/Section";

/** Add an identity of a sign-in provider to one's own account. */
export function Providers() {
  const query = useQuery({
    queryKey: ["hub", "self", "providers"],
    staleTime: Infinity,
    queryFn: () => told(hub.GET("/api/v1/auth/providers")),
  });
  const link = useMutation({
    mutationFn: (provider: string) =>
      told(hub.POST("/api/v1/auth/oidc/{provider}/link", { params: { path: { provider } } })),
    onSuccess: ({ location: there }) => {
      // Only ever a page, whatever the provider's own settings say.
      if (/^https?:\/\//.test(there)) location.assign(there);
    },
  });
  return (
    <Section
      title="Sign-in providers"
      about="Add your identity at a provider, and sign in with it from then on. You go there, say yes, and come back."
    >
      <Shown query={query} rows={1}>
        {({ items }) =>
          items.length === 0 ? (
            <Text size="sm">
              This Hub has none. Whoever runs it adds one, such as the identity provider of your company, in
              its settings.
            </Text>
          ) : (
            <Stack gap="sm">
              {items.map((provider) => (
                <Group key={provider.name} justify="space-between">
                  <Text size="sm">
                    <bdi>{provider.title}</bdi>
                  </Text>
                  <Button
                    size="xs"
                    variant="default"
                    aria-label={`Add your identity at ${provider.title}`}
                    loading={link.isPending && link.variables === provider.name}
                    onClick={() => {
                      link.mutate(provider.name);
                    }}
                  >
                    Add your identity
                  </Button>
                </Group>
              ))}
            </Stack>
          )
        }
      </Shown>
      {link.error !== null && <ProblemAlert error={link.error} />}
    </Section>
  );
}
