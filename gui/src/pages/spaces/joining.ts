/** The values of the Helm chart that make a cluster join that Hub. */
export function helmValues(hubUrl: string, namespaces: readonly string[]): string {
  const served =
    namespaces.length === 0
      ? []
      : ["serve:", "  namespaces:", ...namespaces.map((name) => `    - "${name}"`)];
  return ["hub:", `  url: ${hubUrl}`, ...served].join("\n");
}

export const HELM_INSTALL =
  "helm install codezero deploy/helm/codezero \\\n  --namespace codezero --create-namespace --values values.yaml";
export const HELM_TOKEN =
  "kubectl create secret generic codezero-join \\\n  --namespace codezero --from-file=token=token.txt";
export const SEE_PODS = "kubectl get pods --namespace codezero";
export const SEE_STATUS = "czctl teamspace status";
export const SEE_SERVICE = "kubectl get service codezero --namespace codezero";

/** The command that installs a Teamspace; `namespaces` are those whose services may be served. */
export function installCommand(command: string, namespaces: readonly string[]): string {
  return [command, ...namespaces.map((name) => `--serve-namespace ${name === "*" ? "'*'" : name}`)].join(
    " \\\n  ",
  );
}

/** The namespaces that a text names, by commas or spaces. */
export function namespacesOf(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter((name) => name !== ""))];
}

/** Why a name of that list can be none, or null: `*` is all of them. */
export function namespacesProblem(text: string): string | null {
  const bad = namespacesOf(text).find(
    (name) => name !== "*" && !/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name),
  );
  return bad === undefined ? null : `${bad.slice(0, 70)} is no namespace`;
}
