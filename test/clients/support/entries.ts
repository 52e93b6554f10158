// The entries of an index in a registry, as crane sees them: its images, and what is attested of them.
import { z } from 'zod';
import { clientPath } from './clients.ts';
import { run } from './process.ts';

const Platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const Index = z.object({
  manifests: z.array(
    z.object({
      digest: z.string(),
      platform: Platform.transform(({ os, architecture, variant }) =>
        [os, architecture, variant].filter(Boolean).join('/'),
      ),
      annotations: z.record(z.string(), z.string()).default({}),
    }),
  ),
});

type Entry = z.output<typeof Index>['manifests'][number];

interface Attestation {
  readonly digest: string;
  readonly type: string | undefined;
  /** The digest of the image that it is about. */
  readonly about: string | undefined;
}

export interface Entries {
  readonly images: readonly Entry[];
  readonly attestations: readonly Attestation[];
}

export async function listEntries(index: string): Promise<Entries> {
  const { manifests } = Index.parse(JSON.parse(await run(clientPath('crane'), ['manifest', '--insecure', index])));
  const isAttestation = ({ platform }: Entry) => platform === 'unknown/unknown';
  return {
    images: manifests.filter(entry => !isAttestation(entry)),
    attestations: manifests.filter(isAttestation).map(({ digest, annotations }) => ({
      digest,
      type: annotations['vnd.docker.reference.type'],
      about: annotations['vnd.docker.reference.digest'],
    })),
  };
}
