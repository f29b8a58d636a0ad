import { Alert } from "@mantine/core";
import { useForm } from "@mantine/form";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { hub, told } from "../../api/hub";
import type { Member, Role } from "../../api/hub.generated";
import { asProblem, Problem } from "../../api/problem";
import { refused, said } from "../../parts";
import { DialogForm } from "../../parts/FormDialog";
import { useReadAnew } from "../../parts/members";
import { RoleChoice } from "../../parts/RoleChoice";
import { givable, PERMISSIONS, ROLES } from "../../parts/roles";
import { useOrganization, useSession } from "../../session/session";

/** A form that makes a member something else. */
export function ChangeRole({ member, onDone }: { member: Member; onDone: () => void }) {
  const organization = useOrganization();
  const { me } = useSession();
  const client = useQueryClient();
  const readAnew = useReadAnew();
  const form = useForm<{ role: Role }>({ initialValues: { role: member.role } });
  const change = useMutation({
    mutationFn: (role: Role) =>
      told(
        hub.PATCH("/api/v1/organizations/{organization}/members/{user}", {
          params: {
            path: { organization: organization.id, user: member.user },
            header: { "if-match": `"${String(member.version)}"` },
          },
          body: { role },
        }),
      ),
    onSuccess: async (changed) => {
      said(`${member.name} is ${ROLES[changed.role].title.toLowerCase()} now`);
      onDone();
      if (member.user === me?.user.id) await client.invalidateQueries({ queryKey: ["session"] });
    },
    onError: (error) => {
      const problem = asProblem(error);
      if (problem.status !== 412) return;
      onDone();
      refused(
        new Problem({
          status: 412,
          code: problem.code,
          title: problem.title,
          detail: `Somebody else changed ${member.name} meanwhile.`,
          fix: "The list shows what they are now: look at it, and decide anew.",
        }),
      );
    },
    // A role that was changed by somebody meanwhile is shown before anybody decides anew.
    onSettled: () => readAnew("members", "service-accounts", "apikeys", "invitations"),
  });
  const takesAway = PERMISSIONS[member.role].some((one) => !PERMISSIONS[form.values.role].includes(one));
  return (
    <DialogForm
      submit="Change the role"
      change={change}
      onCancel={onDone}
      disabled={form.values.role === member.role}
      onSubmit={form.onSubmit(({ role }) => {
        change.mutate(role);
      })}
    >
      <RoleChoice
        label={`What ${member.name} is`}
        roles={givable(organization.permissions, member.kind)}
        {...form.getInputProps("role")}
      />
      {takesAway && (
        <Alert color="yellow" p="sm">
          API keys that they made and that may do more than the new role end, and so do invitations that they
          sent beyond it.
        </Alert>
      )}
    </DialogForm>
  );
}
