import { PageHead } from "../../parts";

export function CatalogPage() {
  return <PageHead title="Catalog" />;
}
