// Admission: what a name in a path asks for. The token in a path is its credential.
import { RegistryError } from '../oci/errors.ts';
import { formatReference } from '../oci/reference.ts';
import { type Origins, originKey } from '../proxy/origin.ts';
import type { Pull } from '../proxy/proxy.ts';
import type { TokenLedger } from '../tokens/ledger.ts';
import type { TokenRecord } from '../tokens/record.ts';

export interface AdmissionDeps {
  readonly origins: Origins;
  readonly ledger: Pick<TokenLedger, 'find'>;
}

/** Makes a pull of `wt/<token>/<repository>` or `[registry/]repository`. Throws NAME_UNKNOWN, NAME_INVALID or DENIED. */
export function createAdmission({ origins, ledger }: AdmissionDeps): (name: string) => Promise<Pull> {
  return async name => {
    const [first, token = '', ...rest] = name.split('/');
    if (first !== 'wt' || rest.length === 0) return { origin: origins.locateName(name) };
    const record = await ledger.find(token);
    if (!record) {
      throw new RegistryError(
        'NAME_UNKNOWN',
        'this token is unknown or has expired: submit the request anew to get another',
      );
    }
    if (rest.join('/') !== record.repository) {
      throw new RegistryError(
        'NAME_UNKNOWN',
        `this token serves ${record.repository}, not ${rest.join('/').slice(0, 255)}`,
      );
    }
    return pullOf(record, origins);
  };
}

function pullOf(record: TokenRecord, origins: Origins): Pull {
  const { registry, repository, tag, sourceDigest, augmentation, layerSources } = record;
  const origin = origins.locate(registry, repository);
  const sourceName = formatReference({ registry: undefined, repository: originKey(origin), tag, digest: undefined });
  return { origin, augmented: { origin, sourceName, sourceDigest, augmentation, layerSources, tag } };
}
