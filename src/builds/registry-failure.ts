// Whose fault an error of a registry is, for a build: only what may pass is tried again.
import type { RegistryError } from '../oci/errors.ts';
import type { Failure } from './record.ts';

export function kindOfRegistryError({ status }: RegistryError): Failure['kind'] {
  return status === 429 || status >= 500 ? 'infrastructure' : 'build';
}
